"""Tests that all descendants of a guarded program end with it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from services.local.children import guarded
from tests.required import impossible

ORPHANING = """
import subprocess, sys, time
code = "import os, sys, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(60)"
middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])"
subprocess.run([sys.executable, "-c", middle], check=True)
if sys.stdin.readline():
    sys.exit(7)
time.sleep(60)
"""
"""A program that leaves an orphaned grandchild in its own session, and ends at a line of its input."""


@pytest.fixture
def guard() -> "Iterator[subprocess.Popen[str]]":
    if sys.platform != "linux":
        impossible("the kernel does this on Linux alone")
    command = guarded([sys.executable, "-c", ORPHANING])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as guard:
        yield guard
        guard.kill()


def find_orphan(program: "subprocess.Popen[str]") -> psutil.Process:
    assert program.stdout is not None
    return psutil.Process(int(program.stdout.readline()))


def test_an_orphan_ends_with_the_program_and_the_code_is_the_programs(guard: "subprocess.Popen[str]") -> None:
    orphan = find_orphan(guard)
    assert guard.stdin is not None
    guard.stdin.write("end\n")
    guard.stdin.flush()
    assert guard.wait(10.0) == 7
    assert not orphan.is_running()


def test_sigterm_is_passed_on(guard: "subprocess.Popen[str]") -> None:
    orphan = find_orphan(guard)
    guard.terminate()
    assert guard.wait(10.0) == -signal.SIGTERM
    assert not orphan.is_running()


def find_inner(guard: "subprocess.Popen[str]") -> psutil.Process:
    (inner,) = psutil.Process(guard.pid).children()
    return inner


def test_the_end_of_the_inner_guard_ends_everything(guard: "subprocess.Popen[str]") -> None:
    """B7: a guard is killed, and the other guard inherits the orphans of its program."""
    orphan = find_orphan(guard)
    family = psutil.Process(guard.pid).children(recursive=True)
    find_inner(guard).kill()
    assert guard.wait(10.0) == -signal.SIGKILL
    assert not any(process.is_running() for process in [orphan, *family])


def test_the_end_of_the_outer_guard_ends_everything(guard: "subprocess.Popen[str]") -> None:
    """B7: the other guard is killed."""
    orphan = find_orphan(guard)
    family = psutil.Process(guard.pid).children(recursive=True)
    guard.kill()
    await_end([orphan, *family])


def await_end(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 10.0
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_death_of_its_parent_ends_everything() -> None:
    code = (
        "import subprocess, sys; from services.local.children import guarded\n"
        f"subprocess.Popen(guarded([sys.executable, '-c', {ORPHANING!r}])).wait()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        orphan = find_orphan(owner)
        owner.kill()
        await_end([orphan])
