"""The loops that run in parallel to the player."""

import threading

import pytest

from evals.load.session import Loops


class Waiting:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def run(self) -> None:
        self.closed.wait(10)

    def close(self) -> None:
        self.closed.set()


class Failing(Waiting):
    def run(self) -> None:
        raise ValueError("no more")


class Ending(Waiting):
    def run(self) -> None:
        self.closed.set()


def test_the_end_of_the_context_closes_every_loop() -> None:
    loops = [Waiting(), Waiting()]
    with Loops(*loops) as running:
        running.check()
    assert all(each.closed.is_set() for each in loops)


def test_the_error_of_a_loop_is_raised() -> None:
    with Loops(Waiting(), Failing()) as running, pytest.raises(ValueError, match="no more"):
        while True:
            running.check()


def test_a_loop_that_ended_too_early_raises() -> None:
    ending = Ending()
    with Loops(ending) as running, pytest.raises(RuntimeError, match="ended before it was closed"):
        while True:
            running.check()
