"""Tests the supervisor: it restarts with back-off; before everything was ready, a fatal end fails the start."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.local import children
from services.local.logfile import RotatingLog
from services.local.supervisor import FREE_WITHIN_S, LONG_LIFE_S, Program, StackFailed, Supervisor, is_fatal
from tests.waiting import eventually


class Bench:
    """A supervisor whose clock stands still until it is set, and the lines that it printed."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.said: list[str] = []
        self.log = RotatingLog(folder / "logs" / "toy.log")
        self.supervisor = Supervisor(say=self.said.append, clock_s=lambda: self.now_s)

    def program(self, code: str, may_start: Callable[[], bool] = lambda: True) -> Program:
        argv = [sys.executable, "-c", code]
        return Program(name="toy", start=lambda: children.start(argv, log=self.log), log=self.log, may_start=may_start)

    def running(self) -> "subprocess.Popen[bytes]":
        """Returns the process, once it runs."""
        eventually(lambda: bool(self.supervisor.processes))
        return self.supervisor.processes["toy"]

    def await_said(self, num: int) -> list[str]:
        eventually(lambda: len(self.said) >= num)
        return self.said


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    toy_bench = Bench(tmp_path)
    yield toy_bench
    toy_bench.supervisor.stop("toy", grace_s=5.0)
    toy_bench.supervisor.close()


FOR_EVER = "import time; print('here', flush=True); time.sleep(600)"


@pytest.mark.parametrize(("code", "fatal"), [(0, False), (-9, False), (75, False), (1, True), (2, True), (78, True)])
def test_what_would_end_again_is_fatal_at_first(code: int, fatal: bool) -> None:
    assert is_fatal(code) is fatal


def test_a_killed_program_is_started_again_later_each_time(bench: Bench) -> None:
    """B7: two kills within seconds do not end the stack."""
    bench.supervisor.add(bench.program(FOR_EVER))
    for num, delay_s in enumerate((1.0, 2.0, 4.0)):
        killed = bench.running()
        killed.kill()
        bench.await_said(num + 1)
        assert bench.supervisor.processes == {}
        bench.now_s += delay_s
        assert bench.running().pid != killed.pid
        assert bench.supervisor.num_restarts == num + 1
    assert [line.split(" (log")[0] for line in bench.said] == [
        f"toy was killed (SIGKILL); it is started again in {delay} s" for delay in (1, 2, 4)
    ]
    bench.supervisor.check()


def test_the_time_that_a_program_lived_counts_as_waiting(bench: Bench) -> None:
    bench.supervisor.add(bench.program(FOR_EVER))
    for num, (lived_s, delay_s) in enumerate(((0, 1), (10, 1), (1, 3), (10, 1), (3, 13)), start=1):
        process = bench.running()
        bench.now_s += lived_s
        process.kill()
        assert f"again in {delay_s} s" in bench.await_said(num)[num - 1]
        bench.now_s += delay_s


def test_a_long_life_is_rewarded(bench: Bench) -> None:
    bench.supervisor.add(bench.program(FOR_EVER))
    bench.running().kill()
    bench.await_said(1)
    bench.now_s += 1.0
    process = bench.running()
    bench.now_s += LONG_LIFE_S
    process.kill()
    assert "again in 1 s" in bench.await_said(2)[1]


def test_wrong_settings_end_the_start_with_the_end_of_the_log(bench: Bench) -> None:
    bench.supervisor.add(bench.program("import sys; print('no such encoder'); sys.exit(78)"))

    def has_failed() -> bool:
        try:
            bench.supervisor.check()
        except StackFailed as error:
            assert "toy ended with 78 (settings or set-up)" in str(error)
            assert "no such encoder" in str(error)
            return True
        return False

    eventually(has_failed)
    assert bench.said == []


def test_afterwards_they_end_nothing_and_the_reason_is_said(bench: Bench) -> None:
    """B7: an exit with 78 does not end the other programs once all were ready."""
    bench.supervisor.tolerate()
    bench.supervisor.add(bench.program("import sys; print('port 8000 is taken'); sys.exit(78)"))
    (line,) = bench.await_said(1)
    assert line.startswith(
        "toy ended with 78 (settings or set-up): port 8000 is taken; it is started again in 1 s (log: "
    )
    bench.supervisor.check()
    bench.now_s += 1.0
    assert "again in 2 s" in bench.await_said(2)[1]


def test_a_program_waits_for_what_it_needs_to_itself_but_not_for_ever(bench: Bench) -> None:
    """B7: the earlier holder of the port may need a moment to release it."""
    is_free = [False]
    bench.supervisor.add(bench.program(FOR_EVER, may_start=lambda: is_free[0]))
    time.sleep(0.3)
    assert bench.supervisor.processes == {}
    is_free[0] = True
    bench.running().kill()
    bench.await_said(1)
    is_free[0] = False
    bench.now_s += 1.0
    time.sleep(0.3)
    assert bench.supervisor.processes == {}
    bench.now_s += FREE_WITHIN_S + 0.1
    bench.running()


def test_hurry_starts_what_waits(bench: Bench) -> None:
    bench.supervisor.add(bench.program(FOR_EVER))
    bench.running().kill()
    bench.await_said(1)
    bench.supervisor.skip_backoff()
    bench.running()


def test_a_program_that_cannot_be_started_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([tmp_path / "absent"])

    bench.supervisor.add(Program(name="toy", start=start, log=bench.log))
    assert "toy could not be started ([Errno 2] No such file" in bench.await_said(1)[0]


def test_a_message_about_a_program_ends_with_what_it_said_last(bench: Bench) -> None:
    bench.supervisor.add(bench.program(FOR_EVER))
    eventually(lambda: bench.log.path.exists() and bench.log.path.stat().st_size > 0)
    assert bench.supervisor.ending("toy") == f"; the end of {bench.log.path}:\n  here"
    assert bench.supervisor.ending("a Redis of somebody else") == ""


def test_what_is_stopped_stays_stopped(bench: Bench) -> None:
    bench.supervisor.add(bench.program(FOR_EVER))
    process = bench.running()
    bench.supervisor.stop("toy", grace_s=5.0)
    assert process.returncode == -signal.SIGTERM
    time.sleep(0.3)
    assert (bench.supervisor.processes, bench.said) == ({}, [])
