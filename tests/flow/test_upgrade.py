"""An upgrade without a stop: programs of the release before beside ours, on one Kafka, one Redis and one group.

    N-1: learner, rollout, replica --events, labels--> N: a replica beside it --> that one alone --> rollout, learner

The order is that of docs/how-to/upgrade.md: replicas first, then the rollout, then the learner. The release before is
the commit PREVIOUS, in a worktree of its own, each of whose programs is a process with that tree alone on its path. No
event may be lost or refused, no version refused, and versions of either learner reach the replica of the other release.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from services.local.children import free_port
from services.versions import ROOT
from tests.flow.cluster import CONSTANTS, Traffic, end
from tests.learner.small_learner import save_encoder
from tests.required import missing
from tests.stores import SIGNING_KEY
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.records import DeadLetter, Quarantined, ReplicaReport
from wire.sections import INTERNAL_VARIABLE
from wire.store import Store

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.parametrize("broker", ["kafka"], indirect=True),
]

PREVIOUS = "d465a6db37ffdf9dcc19b5a865ae5b8887f8aaf8"
"""The first commit with the stored forms of 0.1.0: to be raised with each release."""

WITHIN_S = 300.0
SETTINGS = """
encoder = "{encoder}"
log_json = true
[serving]
replicas = 1
drain_timeout_s = 5.0
[learner]
num_features = 96
label_capacity = 8
trainable_layers = 0
checkpoint_interval_s = 1.0
publish_interval_s = 0.5
"""
CONSTANT = {INTERNAL_VARIABLE: json.dumps(CONSTANTS), "LIFELONG_BUS__CLIENT": '{"fetch_max_wait_ms": 50}'}
"""The constants that the tests of both releases change."""


class Release:
    """One release: its source, and the programs that were started of it."""

    def __init__(self, tree: Path, folder: Path, settings: Path, environ: Mapping[str, str], exits: ExitStack) -> None:
        self._tree = tree
        self._folder = folder
        self._settings = settings
        self._environ = environ
        self._exits = exits

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Starts a command. All learners have one state folder, as where the volume of one moves to the next."""
        log = (self._folder / f"{self._tree.name}-{words[0]}.log").open("ab")
        self._exits.callback(log.close)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "services.cli", *words, "--config", str(self._settings)],
            env={
                **self._environ,
                "PYTHONPATH": str(self._tree),
                "LIFELONG_STATE_DIR": str(self._folder / "state"),
                "LIFELONG_SERVING__HTTP_PORT": str(free_port()),
            },
            cwd=self._tree,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._exits.callback(end, process)
        return process


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Path]:
    """Yields the source of the release before, with the kernels that it would build."""
    tree = tmp_path / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    done = subprocess.run([*git, "add", "--detach", "--force", str(tree), PREVIOUS], capture_output=True, text=True)
    if done.returncode:
        missing("history", f"this checkout has no {PREVIOUS[:8]} (`git fetch --unshallow`): {done.stderr.strip()}")
    for built in (ROOT / "kernels/native").glob("*.so"):  # named by its sources: of use where they are the same
        shutil.copy(built, tree / "kernels/native")
    yield tree
    subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


def calmly(holds: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Waits until `holds` is true, and leaves the processors to the programs meanwhile."""

    def holds_after_a_pause() -> bool:
        time.sleep(0.2)
        return holds()

    eventually(holds_after_a_pause, within_s=within_s)


def prepared(folder: Path, bus_config: BusConfig, store_config: StoreConfig) -> tuple[Path, dict[str, str]]:
    """Returns the file of settings and the environment of the programs of both releases."""
    (folder / "encoder").mkdir()
    settings = folder / "lifelong.toml"
    settings.write_text(SETTINGS.format(encoder=save_encoder(folder / "encoder")))
    return settings, {key: value for key, value in os.environ.items() if not key.startswith("LIFELONG_")} | {
        "LIFELONG_SIGNING_KEY": SIGNING_KEY.decode(),
        "LIFELONG_STORE__URL": store_config.url,
        "LIFELONG_STORE__PREFIX": store_config.prefix,
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
    }


def serving(release: Release, are_there: Callable[[], bool]) -> "subprocess.Popen[bytes]":
    """Starts replicas, again where Ray gave up, as it does after 30 s on a busy machine; systemd would, too."""
    process = release.start("serve")

    def have_come() -> bool:
        nonlocal process
        if process.poll() is not None:
            process = release.start("serve")
        return are_there()

    calmly(have_come)
    return process


def count_answers(reports: list[ReplicaReport]) -> dict[str, int]:
    return {report.replica: report.counts.get("answers", 0) for report in reports}


def test_programs_of_two_releases_answer_and_learn_side_by_side(
    before: Path, bus_config: BusConfig, store_config: StoreConfig, store: Store, tmp_path: Path
) -> None:
    def reports() -> list[ReplicaReport]:
        return list(store.reports.replicas())

    def everything_is_answered() -> None:
        waiting = traffic.unanswered()
        calmly(lambda: not waiting & traffic.unanswered())

    def a_new_version_answers() -> None:
        version = store.versions.current()
        calmly(lambda: traffic.newest() > version)

    with ExitStack() as exits:
        settings, environ = prepared(tmp_path, bus_config, store_config)
        old = Release(before, tmp_path, settings, environ | CONSTANT, exits)
        new = Release(ROOT, tmp_path, settings, environ | CONSTANT, exits)
        assert new.start("topics", "create").wait(120) == 0
        learner, rollout = old.start("learn"), old.start("rollout", "run")
        replica = serving(old, lambda: len(reports()) == 1)
        traffic = exits.enter_context(Traffic(bus_config))
        calmly(lambda: traffic.newest() > 1)
        first = count_answers(reports())
        serving(new, lambda: len(reports()) == 2)
        at = count_answers(reports())
        calmly(
            lambda: len(now := count_answers(reports())) == 2 and all(now[name] > num + 20 for name, num in at.items())
        )
        a_new_version_answers()

        end(replica)
        everything_is_answered()
        end(rollout)
        new.start("rollout", "run")
        standby = new.start("learn")
        end(learner)
        a_new_version_answers()
        everything_is_answered()
        assert standby.poll() is None
        calmly(lambda: first.keys().isdisjoint(count_answers(reports())))
        assert [report.refused for report in reports()] == [{}]
        assert all(not num for name, num in reports()[0].counts.items() if "refused" in name or "dead" in name)
        with closing(Bus(bus_config, client_id="test")) as bus:
            assert sum(bus.end_offsets(DeadLetter, Quarantined).values()) == 0
