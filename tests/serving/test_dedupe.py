"""Deliveries that come again."""

import pytest

from serving.dedupe import Admission, DedupeWindow
from wire.records import Event


@pytest.fixture
def window() -> DedupeWindow:
    return DedupeWindow(2)


def event(name: str, source: str = "s") -> Event:
    return Event(id=name, text="hello", source=source)


def test_every_delivery_of_an_event_is_finished_with_its_answer(window: DedupeWindow) -> None:
    finished: list[int] = []
    assert window.admit(event("a"), lambda: finished.append(1)) is Admission.NEW
    assert window.admit(event("a"), lambda: finished.append(2)) is Admission.OPEN
    assert finished == []
    window.settle(event("a"))
    assert finished == [1, 2]


def test_an_answered_event_is_left_to_the_caller(window: DedupeWindow) -> None:
    finished: list[int] = []
    window.admit(event("a"), lambda: None)
    window.settle(event("a"))
    assert window.admit(event("a"), lambda: finished.append(1)) is Admission.ANSWERED
    assert finished == []


def test_an_event_whose_answer_was_lost_is_new_again(window: DedupeWindow) -> None:
    finished: list[int] = []
    window.admit(event("a"), lambda: finished.append(1))
    window.drop(event("a"))
    assert finished == []
    assert window.admit(event("a"), lambda: None) is Admission.NEW


def test_an_id_is_unique_within_its_source(window: DedupeWindow) -> None:
    window.admit(event("a"), lambda: None)
    assert window.admit(event("a", source="other"), lambda: None) is Admission.NEW


def test_the_oldest_answered_event_is_forgotten(window: DedupeWindow) -> None:
    for name in "abc":
        window.admit(event(name), lambda: None)
        window.settle(event(name))
    assert window.admit(event("a"), lambda: None) is Admission.NEW
    assert window.admit(event("c"), lambda: None) is Admission.ANSWERED


def test_waits_until_nothing_is_open(window: DedupeWindow) -> None:
    assert window.wait_until_settled(0)
    window.admit(event("a"), lambda: None)
    assert window.num_open == 1
    assert not window.wait_until_settled(0.01)
    window.settle(event("a"))
    assert window.wait_until_settled(0)
