"""Tests that are marked `alone` run while no other test does, in whatever processes the tests of this checkout run.

    test     gate, then the lock, shared  -> runs beside others
    alone    gate, then the lock, for one -> runs when those under way have ended, while the gate keeps out the next

What measures time, or waits for programs that wait for one another, is slow beside other tests, and says nothing then.
The locks are files that exist anyway, and end with the process.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MARK = "alone"
LOCK = Path(__file__)
GATE = LOCK.with_name("conftest.py")


@contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    """Holds a lock on an open file: `fcntl.LOCK_SH` beside others, `fcntl.LOCK_EX` alone."""
    with path.open("rb") as file:
        fcntl.flock(file, operation)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # now, though a child that was forked may have the file, too


@contextmanager
def turn(*, is_alone: bool, lock: Path = LOCK, gate: Path = GATE) -> Iterator[None]:
    """Waits until a test may run, and keeps those that may not run beside it from it."""
    with locked(gate, fcntl.LOCK_EX):
        mine = locked(lock, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        mine.__enter__()
    try:
        yield
    finally:
        mine.__exit__(None, None, None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Runs a test in its turn. The time of its timeout begins afterwards."""
    with turn(is_alone=item.get_closest_marker(MARK) is not None):
        return (yield)
