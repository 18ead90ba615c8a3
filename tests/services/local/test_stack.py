"""Tests the local stack with real processes: it answers, or says why it does not, and leaves no process behind."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.local.stack import Stack
from services.local.supervisor import StackFailed
from services.running import FILE, NotRunning, attach
from services.settings import Settings, load
from tests.services.stack_owner import DEADLINE_S, UP, Owner, gone, owning
from tests.waiting import eventually
from wire.keyring import Kind, parse

pytestmark = pytest.mark.live

PROGRAMS = ("redis", "broker", "learner", "rollout", "serve")

OWNER = """
import json, os, signal
from pathlib import Path
from typing import Any
from services.settings import load
from services.local.stack import Stack

with Stack(load(file=Path(os.devnull), environ=os.environ).settings) as stack:
    print("Ready", json.dumps(stack.memory()), flush=True)
    signal.pause()
"""
"""A program that owns a stack, as the demo does."""


def settings_in(folder: Path, **environ: str) -> Settings:
    return load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(folder), **environ}).settings


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """Runs `lifelong up`."""
    with owning(UP, tmp_path_factory.mktemp("up")) as owner:
        yield owner


def test_it_says_which_broker_it_uses_and_that_it_forgets(up: Owner) -> None:
    assert any("tansu" in line and "in memory" in line for line in up.said), up.said


def test_other_commands_find_it_and_it_answers(up: Owner) -> None:
    done = up.ask("predict", "where is my parcel?", "hello", "--json")
    answers = json.loads(done.stdout)
    assert [answer["arm"] for answer in answers] == ["stable", "stable"]
    sent = up.ask("feedback", answers[0]["event_id"], "delivery")
    assert (sent.returncode, "sent to the learner" in sent.stdout) == (0, True), sent.stderr


def test_the_rollout_is_shown_and_steered(up: Owner) -> None:
    versions = json.loads(up.ask("versions", "--json").stdout)
    assert versions["entries"][-1]["action"] == "published"
    history = json.loads(up.ask("rollout", "history", "--json").stdout)
    assert [decision["action"] for decision in history][-1] == "promoted"
    assert "pinned" in up.ask("rollout", "pin", "1").stdout
    assert up.ask("rollout", "unpin").returncode == 0
    again = up.ask("rollout", "unpin")
    assert (again.returncode, "not pinned" in again.stderr) == (2, True)
    status = json.loads(up.ask("rollout", "status", "--json").stdout)
    assert (status["plan"]["pinned"], len(status["replicas"])) == (False, 1)


def test_a_second_stack_in_the_same_folder_is_refused(up: Owner) -> None:
    with pytest.raises(StackFailed, match="already runs"), Stack(settings_in(up.folder)):
        pass


def test_what_it_keeps_is_its_owner_s_alone(up: Owner) -> None:
    """B24: checkpoints, logs and records hold users' texts."""
    inside = [path for path in up.folder.rglob("*") if not path.is_symlink()]
    assert any(path.suffix == ".checkpoint" for path in inside)
    assert [str(path) for path in inside if path.stat().st_mode & 0o077] == []


def test_replicas_get_public_keys_alone(up: Owner) -> None:
    for name in ("learner", "rollout", "serve"):
        for pid in up.pids(name):
            ring = parse(Path(psutil.Process(pid).environ()["LIFELONG_SIGNING_KEY_FILE"]).read_text())
            assert (ring.signer is None) == (name == "serve") and ring.receipts
            assert bool(ring.of(Kind.SUBJECT)) == (name != "serve")


def test_keys_rotate_while_it_runs(up: Owner) -> None:
    """Every program follows the key file: no program restarts, and the learner goes on publishing with the new key."""
    programs = {name: up.pids(name) for name in ("learner", "rollout", "serve")}
    (old,) = [row["key"] for row in list_keys(up) if row["kind"] == Kind.SECRET]
    assert up.ask("signing-keys", "new").returncode == 0
    eventually(lambda: up.ask("signing-keys", "rotate").returncode == 0, within_s=60)
    eventually(up.learns, within_s=60)
    # Signs the versions again that were published before the learner had read the file.
    again = ("signing-keys", "rotate")
    eventually(lambda: not (up.ask(*again).returncode or up.ask("signing-keys", "retire", old).returncode), within_s=60)
    # An answer has an old receipt if its replica had not read the file yet.
    eventually(up.learns, within_s=60)
    assert {row["kind"]: row["records"] for row in list_keys(up)}[Kind.RETIRED] == 0
    assert {name: up.pids(name) for name in programs} == programs


def list_keys(up: Owner) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(up.ask("signing-keys", "list", "--json").stdout)["keys"]
    return found


def test_nobody_else_can_reach_its_redis(up: Owner) -> None:
    """B8."""
    (redis,) = up.pids("redis")
    assert psutil.Process(redis).net_connections(kind="inet") == []


def test_every_program_is_in_a_process_group_of_its_own_and_in_the_session_of_the_owner(up: Owner) -> None:
    """Control-C in a terminal reaches only the owner, which ends the programs in order; nice values count."""
    owner = up.process.pid
    pids = list(chain.from_iterable(map(up.pids, PROGRAMS)))
    assert os.getpgid(owner) not in {os.getpgid(pid) for pid in pids}
    assert {os.getsid(pid) for pid in pids} == {os.getsid(owner)}


def test_control_c_ends_everything_cleanly(up: Owner) -> None:
    family = up.family()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE_S) == 0
    eventually(lambda: gone(family))
    assert not (up.folder / FILE).exists()


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    with owning([sys.executable, "-c", OWNER], tmp_path) as owner:
        used = json.loads(owner.lines("Ready")[0].removeprefix("Ready"))
        assert set(used) == {"redis", "broker", "serve", "learner", "rollout", "this"}
        assert min(used.values()) > 0
        assert sum(used.values()) < 4 << 30
        family = owner.family()
        owner.process.kill()
        eventually(lambda: gone(family))


def test_a_program_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    stack = Stack(settings_in(tmp_path, LIFELONG_ENCODER="no/such-encoder"))
    with pytest.raises(StackFailed, match=r"(learner|serve) ended with 78") as caught, stack:
        pass
    assert "no/such-encoder" in str(caught.value)
    assert stack.processes == {}
    with pytest.raises(NotRunning):
        attach(settings_in(tmp_path))
