"""Other processes are distinguished from our own, and their processor time is counted by name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from evals.results import conditions
from evals.results.conditions import Conditions, ConditionsWatch

TAKES_S = 0.3

BUSY = "while True:\n    pass\n"

LEAVES = """
import subprocess, sys
from subprocess import DEVNULL
print(subprocess.Popen([sys.executable, sys.argv[1]], stdout=DEVNULL, stderr=DEVNULL).pid, flush=True)
"""
"""Starts a program that outlives it."""


@pytest.fixture(autouse=True)
def unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses before and after the context take no time, and all other processes are named."""
    monkeypatch.setattr(conditions, "PAUSE_S", 0.0)
    monkeypatch.setattr(conditions, "NUM_BUSIEST", 1000)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "busy_program.py"
    path.write_text(BUSY)
    return path


@contextmanager
def not_ours(program: Path) -> Iterator[psutil.Process]:
    """Runs a program that takes a processor and is not a descendant of this process."""
    argv = [sys.executable, "-c", LEAVES, str(program)]
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    process = psutil.Process(pid)
    try:
        yield process
    finally:
        process.kill()


def await_taken(process: psutil.Process) -> None:
    """Waits until the process has taken TAKES_S more seconds of a processor."""
    target_s = process.cpu_times().user + TAKES_S
    while process.cpu_times().user < target_s:
        os.sched_yield()


def observed(process: psutil.Process) -> Conditions:
    """Measures the load of others while the process takes TAKES_S seconds."""
    with ConditionsWatch() as watch:
        await_taken(process)
    assert watch.conditions
    return watch.conditions


def names(found: Conditions) -> str:
    return " ".join(found.during.busiest)


def test_another_program_is_counted_and_named_by_its_script(program: Path) -> None:
    with not_ours(program) as process:
        during = observed(process).during
    (share,) = [share for name, share in during.busiest.items() if "busy_program.py" in name]
    assert 0.7 * TAKES_S <= share * during.seconds <= during.others * during.seconds + 0.1


def test_our_own_programs_are_not_counted_as_others(program: Path) -> None:
    with subprocess.Popen([sys.executable, program]) as own:
        found = observed(psutil.Process(own.pid))
        own.kill()
    assert "busy_program" not in names(found)


def test_a_program_stays_ours_when_its_parent_has_ended(program: Path) -> None:
    waits = f"{LEAVES}\nsys.stdin.read()"
    argv = [sys.executable, "-c", waits, str(program)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout and parent.stdin
        left = psutil.Process(int(parent.stdout.readline()))
        with ConditionsWatch() as watch:
            parent.stdin.close()
            parent.wait()
            await_taken(left)
        left.kill()
    assert watch.conditions
    assert "busy_program" not in names(watch.conditions)


def test_conditions_have_load_and_steal_before_during_and_after(program: Path) -> None:
    with not_ours(program) as process:
        found = observed(process)
    for period in (found.before, found.during, found.after):
        assert period.load >= 0
        assert 0 <= period.steal <= 100


def test_there_are_no_conditions_before_the_end() -> None:
    with ConditionsWatch() as watch:
        assert watch.conditions is None
