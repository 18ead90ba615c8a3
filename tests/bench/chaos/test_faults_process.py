"""Checks kills and pauses, on real processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from bench.chaos.faults import Kill, Pause, Together
from tests.waiting import eventually

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as started:
        processes = [started.enter_context(subprocess.Popen(SLEEPS)) for _ in range(2)]
        for process in processes:
            started.callback(process.kill)
        yield processes


def test_a_kill_counts_when_a_process_was_killed(sleepers: list[subprocess.Popen[bytes]]) -> None:
    first, second = sleepers
    fault = Kill("sleeper", lambda: [first.pid, second.pid])
    assert fault.num_kills == 0
    assert fault.inject() == f"process {first.pid}"
    assert (first.wait(10), second.poll(), fault.num_kills) == (-9, None, 1)


@pytest.mark.parametrize("has_ended", [True, False])
def test_where_nobody_is_there_no_kill_counts(sleepers: list[subprocess.Popen[bytes]], has_ended: bool) -> None:
    gone, other = sleepers
    gone.kill()
    gone.wait()
    nobody = Kill("nobody", lambda: [gone.pid] if has_ended else [])
    together = Together((nobody, Kill("sleeper", lambda: [other.pid])))
    assert together.inject() == f"nobody is there, process {other.pid}"
    assert (nobody.num_kills, together.num_kills) == (0, 1)


def test_a_pause_ends(sleepers: list[subprocess.Popen[bytes]]) -> None:
    process = psutil.Process(sleepers[0].pid)
    fault = Pause("sleeper", lambda: [process.pid], 1.0)
    fault.inject()
    eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    fault.heal()
    eventually(lambda: process.status() != psutil.STATUS_STOPPED)
    assert fault.num_kills == 0
