import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from learner.checkpoint import Checkpoints, Snapshot
from learner.failpoints import NAMES, VARIABLE
from learner.loop import EXIT_STALE
from tests.brokers import eventually
from tests.learner.small import save_encoder, small_learner
from tests.learner.streams import stream
from wire.bus import Bus
from wire.clock import now_ms
from wire.config import BusConfig, StoreConfig
from wire.records import LearnerReport
from wire.store import Store

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
LABELS_PER_RUN = 40


class Children:
    """Learners in processes of their own, one after another or side by side, on the same state, bus and store."""

    def __init__(self, folder: Path, bus_config: BusConfig, store_config: StoreConfig, *, layers: int) -> None:
        (folder / "encoder").mkdir()
        self.state_dir = folder / "state"
        self._args = [
            str(self.state_dir),
            save_encoder(folder / "encoder"),
            bus_config.bootstrap_servers,
            bus_config.prefix,
            store_config.url,
            store_config.prefix,
            str(layers),
        ]
        self._running: list[subprocess.Popen[str]] = []

    def start(self, failpoint: str = "") -> subprocess.Popen[str]:
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        env |= {VARIABLE: failpoint} if failpoint else {}
        command = [sys.executable, "-m", "tests.learner.child", *self._args]
        child = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._running.append(child)
        return child

    def snapshot(self) -> Snapshot:
        found = Checkpoints(self.state_dir, num_newest=3).newest()
        assert found is not None
        return found

    def close(self) -> None:
        for child in self._running:
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGCONT)
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


@pytest.fixture
def start_children(
    tmp_path: Path, bus_config: BusConfig, store_config: StoreConfig, request: pytest.FixtureRequest
) -> Callable[[int], Children]:
    def start(layers: int) -> Children:
        children = Children(tmp_path, bus_config, store_config, layers=layers)
        request.addfinalizer(children.close)
        return children

    return start


def wait_for(store: Store, holds: Callable[[LearnerReport], bool], *, since_ms: int = 0) -> None:
    """Waits for a report that holds. `since_ms` leaves out what a learner killed before then has left behind."""

    def has_come() -> bool:
        time.sleep(0.05)
        report = store.learner_report()
        return report is not None and report.time_ms > since_ms and holds(report)

    eventually(has_come, within_s=90)


def killed(child: subprocess.Popen[str]) -> int:
    child.communicate(timeout=60)
    return child.returncode


def stopped(child: subprocess.Popen[str]) -> int:
    child.terminate()
    return killed(child)


def send(bus: Bus, first: int, last: int) -> None:
    publisher = bus.publisher()
    for record in stream(first, last):
        publisher.send(record)
    publisher.flush(10)
    publisher.close()


def by_label(snapshot: Snapshot, name: str) -> dict[str, torch.Tensor]:
    return dict(zip(snapshot.facts.classes, snapshot.tensors[name], strict=True))


def assert_each_label_had_its_effect_once(found: Snapshot, num_events: int) -> None:
    whole = small_learner(trainable_layers=0)
    whole.learn(stream(0, num_events), {})
    expected = whole.export(None)
    ends = ("labels", "answers", "matched", "duplicate", "late", "orphan")
    assert {end: found.facts.join.counts.get(end, 0) for end in ends} == {end: whole.join.counts[end] for end in ends}
    for count in ("learnt", "held_back", "over_capacity"):
        assert found.facts.counts.get(count, 0) == whole.counts[count]
    assert by_label(found, "fast.counts") == by_label(expected, "fast.counts")
    assert found.facts.num_scored == expected.facts.num_scored


@pytest.mark.slow
def test_a_learner_killed_at_every_point_learns_each_label_once(
    start_children: Callable[[int], Children], bus: Bus, store: Store
) -> None:
    children = start_children(0)
    points = [name for name in NAMES if name not in ("after-slow-step", "after-adopt")]
    for run, point in enumerate(points):
        send(bus, run * LABELS_PER_RUN, (run + 1) * LABELS_PER_RUN)
        assert killed(children.start(point)) == -signal.SIGKILL, point
    num_events = len(points) * LABELS_PER_RUN
    since_ms = now_ms()
    last = children.start()
    wait_for(
        store,
        lambda report: report.counts.get("answers") == num_events and report.lag == 0,
        since_ms=since_ms,
    )
    assert stopped(last) == 0
    found = children.snapshot()
    assert_each_label_had_its_effect_once(found, num_events)
    whole = small_learner(trainable_layers=0)
    whole.learn(stream(0, num_events), {})
    expected = whole.export(None)
    assert torch.equal(found.tensors["fast.gram"], expected.tensors["fast.gram"])
    theirs = by_label(expected, "fast.class")
    assert all(torch.equal(sums, theirs[label]) for label, sums in by_label(found, "fast.class").items())
    epochs = [store.manifest(entry.version).epoch for entry in store.history(100)]
    assert epochs == sorted(epochs, reverse=True) and store.current() == found.facts.last_version


@pytest.mark.slow
def test_a_learner_killed_in_slow_rounds_learns_each_label_once(
    start_children: Callable[[int], Children], bus: Bus, store: Store
) -> None:
    children = start_children(1)
    points = ("after-slow-step:2", "after-adopt", "after-checkpoint:3")
    for run, point in enumerate(points):
        send(bus, run * 100, (run + 1) * 100)
        assert killed(children.start(point)) == -signal.SIGKILL, point
    since_ms = now_ms()
    last = children.start()
    wait_for(
        store,
        lambda report: report.counts.get("answers") == 300 and report.lag == 0 and not report.round_phase,
        since_ms=since_ms,
    )
    assert stopped(last) == 0
    assert_each_label_had_its_effect_once(children.snapshot(), 300)
    assert children.snapshot().facts.counts["rounds_adopted"] > 0
    first, newest = store.manifest(1), store.manifest(store.current())
    assert {entry.digest for entry in first.tensors} - {entry.digest for entry in newest.tensors}


def test_a_standby_takes_over_and_the_old_leader_stops_with_75(
    start_children: Callable[[int], Children], bus: Bus, store: Store
) -> None:
    children = start_children(0)
    leader = children.start()
    wait_for(store, lambda report: report.version == 1)
    standby = children.start()
    assert standby.stdout and "standing_by" in standby.stdout.readline()
    leader.send_signal(signal.SIGSTOP)
    wait_for(store, lambda report: report.epoch == 2)
    leader.send_signal(signal.SIGCONT)
    assert killed(leader) == EXIT_STALE
    send(bus, 0, 40)
    wait_for(store, lambda report: report.counts.get("answers") == 40 and report.version >= 2)
    assert stopped(standby) == 0
    assert store.manifest(store.current()).epoch == 2
