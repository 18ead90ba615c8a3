"""The local stack, for real: it answers, it says why it does not, and nothing of it is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import pytest

from services.local.tether import free_port
from services.rollout.plans import begin
from services.running import FILE, NotRunning, attach
from services.settings import Settings, load
from services.stack import Stack, StackFailed, waited_for
from tests.services.test_cli import lifelong
from tests.stores import manifest_of
from wire.records import ReplicaReport
from wire.store import Store

pytestmark = pytest.mark.live

DEADLINE_S = 90.0

OWNER = """
import json, os, signal
from pathlib import Path
from services.settings import load
from services.stack import Stack

with Stack(load(file=Path(os.devnull), environ=os.environ).settings) as stack:
    print("Ready", json.dumps(stack.memory()), flush=True)
    signal.pause()
"""
"""A program that owns a stack, as the demo does."""


@dataclass
class Owner:
    """A process that runs a stack whose state is in `folder`, and what it said until it was ready."""

    process: "subprocess.Popen[str]"
    folder: Path
    said: list[str]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def learner(self) -> int:
        """The learner's process id; 0 while there is none."""
        for process in self.family():
            with suppress(psutil.NoSuchProcess):  # or a zombie, which has no command any more
                if process.cmdline()[3:5] == ["services.cli", "learn"]:
                    return process.pid
        return 0

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of another terminal."""
        return lifelong(*words, LIFELONG_STATE_DIR=str(self.folder))


@contextmanager
def owning(command: list[str], folder: Path) -> Iterator[Owner]:
    environ = {key: value for key, value in os.environ.items() if key not in ("KAFKA_HOME", "LIFELONG_STATE_DIR")}
    environ |= {"LIFELONG_STATE_DIR": str(folder), "LIFELONG_SERVING__HTTP_PORT": str(free_port())}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        try:
            yield Owner(process, folder, said_until_ready(process.stdout))
        finally:
            process.kill()


def said_until_ready(lines: IO[str]) -> list[str]:
    said: list[str] = []
    for line in lines:
        said.append(line)
        if line.startswith("Ready"):
            return said
    raise AssertionError(f"never ready: {said}")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def gone(family: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def settings_in(folder: Path, **environ: str) -> Settings:
    return load(file=Path(os.devnull), environ={"LIFELONG_STATE_DIR": str(folder), **environ}).settings


def test_what_is_waited_for_until_an_event_would_be_answered(store: Store) -> None:
    def waited() -> str:
        return waited_for(store, replicas=1, since_ms=1_000)

    lease = store.acquire("learner", "test", 60_000)
    assert lease is not None
    said = [waited()]
    store.publish(manifest_of(store, 1, epoch=lease.epoch), lease)
    said.append(waited())
    store.write_plan(begin(1, salt="s", now_ms=1).plan)
    said.append(waited())
    store.report(ReplicaReport(replica="of the stack before", revision=1, versions=(1,), time_ms=999))
    said.append(waited())
    store.report(ReplicaReport(replica="ours", revision=0, versions=(), time_ms=1_000))
    said.append(waited())
    store.report(ReplicaReport(replica="ours", revision=1, versions=(1,), time_ms=1_001))
    assert [*said, waited()] == ["learner", "rollout", "serve", "serve", "serve", ""]


def test_a_replica_that_answers_with_a_stand_in_is_ready(store: Store) -> None:
    """B1: `up` could not start again while the stable version could not be had."""
    lease = store.acquire("learner", "test", 60_000)
    assert lease is not None
    store.publish(manifest_of(store, 1, epoch=lease.epoch), lease)
    store.write_plan(begin(1, salt="s", now_ms=1).plan)
    store.report(ReplicaReport(replica="ours", revision=1, versions=(7,), time_ms=1_000, stand_in=7))
    assert waited_for(store, replicas=1, since_ms=1_000) == ""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """`lifelong up`."""
    with owning(["-m", "services.cli", "up"], tmp_path_factory.mktemp("up")) as owner:
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
    assert [entry["action"] for entry in versions["entries"]][-2:] == ["promoted", "published"]
    assert "pinned" in up.ask("rollout", "pin", "1").stdout
    assert up.ask("rollout", "unpin").returncode == 0
    again = up.ask("rollout", "unpin")
    assert (again.returncode, "not pinned" in again.stderr) == (2, True)
    status = json.loads(up.ask("rollout", "status", "--json").stdout)
    assert (status["plan"]["pinned"], len(status["replicas"])) == (False, 1)


def test_a_second_stack_in_the_same_folder_is_refused(up: Owner) -> None:
    with pytest.raises(StackFailed, match="already runs"), Stack(settings_in(up.folder)):
        pass


def test_a_killed_learner_is_started_again(up: Owner) -> None:
    before = up.learner()
    eventually(lambda: time.time() - psutil.Process(before).create_time() > 6.0)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: up.learner() not in (0, before))


def test_control_c_ends_everything_cleanly(up: Owner) -> None:
    family = up.family()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE_S) == 0
    eventually(lambda: gone(family))
    assert not (up.folder / FILE).exists()


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    with owning(["-c", OWNER], tmp_path) as owner:
        used = json.loads(owner.said[-1].removeprefix("Ready"))
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
