"""Tests that a separate thread prints messages, and that a blocked output stops nothing else."""

import threading

from services.local.stack import MAX_WAITING, Announcer
from tests.waiting import eventually


def test_messages_are_printed_in_order_and_awaited() -> None:
    said: list[str] = []
    announcer = Announcer(said.append)
    for number in range(5):
        announcer.say(str(number))
    announcer.wait(60)
    assert said == ["0", "1", "2", "3", "4"]


def test_a_stopped_terminal_stops_nothing_and_says_later_what_it_missed() -> None:
    """B7: the supervisor says how a program ended, and goes on."""
    goes_on = threading.Event()
    said: list[str] = []

    def stopped(message: str) -> None:
        goes_on.wait(60)
        said.append(message)

    announcer = Announcer(stopped)
    announcer.say("printing")
    eventually(announcer._waiting.empty)  # the thread prints it
    for number in range(2 * MAX_WAITING):
        announcer.say(str(number))
    announcer.wait(0.0)
    assert not said
    goes_on.set()
    eventually(lambda: len(said) == MAX_WAITING + 2)
    assert said[:2] == ["printing", "0"]
    assert said[-1] == f"{MAX_WAITING} messages were dropped while nothing could be printed: see the logs"


def test_an_output_that_is_closed_loses_the_message_alone() -> None:
    said: list[str] = []

    def tell(message: str) -> None:
        if message == "a":
            raise OSError("the pipe is closed")
        said.append(message)

    announcer = Announcer(tell)
    announcer.say("a")
    announcer.say("b")
    announcer.wait(60)
    assert said == ["b"]
