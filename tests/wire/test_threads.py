"""Tests the background thread."""

import os
import threading
import time

import pytest

from wire.threads import BackgroundThread, lower_priority


class Fault(Exception):
    """Stands for the exception of a room whose thread has ended."""


def test_it_runs_until_it_is_closed() -> None:
    began = threading.Event()

    def run() -> None:
        began.set()
        thread.closing.wait()

    thread = BackgroundThread(run, name="loop")
    thread.start()
    assert began.wait(10)
    thread.check(Fault)
    thread.close()
    assert not thread.is_alive()


def test_a_thread_that_ended_early_is_a_fault() -> None:
    thread = BackgroundThread(lambda: None, name="loop")
    thread.start()
    thread.join(10)
    with pytest.raises(Fault, match="the loop has ended"):
        thread.check(Fault)
    thread.close()


def test_a_thread_that_was_never_started_can_be_closed() -> None:
    thread = BackgroundThread(lambda: None, name="loop")
    with pytest.raises(Fault):
        thread.check(Fault)
    thread.close()
    assert thread.closing.is_set()


def hang(release: threading.Event) -> None:
    release.wait(10)


@pytest.mark.alone
def test_a_thread_that_hangs_is_abandoned() -> None:
    release = threading.Event()
    thread = BackgroundThread(lambda: hang(release), name="hanging")
    thread.start()
    began_s = time.monotonic()
    thread.close(0.05)
    assert time.monotonic() - began_s < 5
    assert thread.is_alive()
    assert thread.daemon
    release.set()
    thread.join(10)


def test_only_the_priority_of_the_calling_thread_is_lowered() -> None:
    values: list[int] = []

    def run() -> None:
        lower_priority(3)
        lower_priority(99)
        values.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = BackgroundThread(run, name="low")
    thread.start()
    thread.join(10)
    assert values == [19]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
