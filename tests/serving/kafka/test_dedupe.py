"""Deliveries that come again."""

import pytest

from serving.kafka.dedupe import Admission, DedupeWindow, conflicting_id
from wire.bus import Position, Received
from wire.envelope import MAX_DETAIL_CHARS
from wire.events import key_of
from wire.records import Event, LogMark


@pytest.fixture
def window() -> DedupeWindow:
    return DedupeWindow(2)


def event(name: str, source: str = "s", *, text: str = "hello", key: str = "", time_ms: int = 0) -> Event:
    return Event(id=name, text=text, source=source, key=key, time_ms=time_ms)


def test_every_delivery_of_an_event_is_finished_with_its_answer(window: DedupeWindow) -> None:
    finished: list[int] = []
    assert window.admit(event("a"), lambda: finished.append(1)) is Admission.NEW
    assert window.admit(event("a"), lambda: finished.append(2)) is Admission.OPEN
    assert finished == []
    window.acknowledge(key_of(event("a")))
    assert finished == [1, 2]


def test_an_answered_event_is_left_to_the_caller(window: DedupeWindow) -> None:
    finished: list[int] = []
    window.admit(event("a"), lambda: None)
    window.acknowledge(key_of(event("a")))
    assert window.admit(event("a"), lambda: finished.append(1)) is Admission.ANSWERED
    assert finished == []


def test_an_event_whose_answer_was_lost_is_new_again(window: DedupeWindow) -> None:
    finished: list[int] = []
    window.admit(event("a"), lambda: finished.append(1))
    window.drop(key_of(event("a")))
    assert finished == []
    assert window.admit(event("a"), lambda: None) is Admission.NEW


def test_an_id_is_unique_within_its_source(window: DedupeWindow) -> None:
    window.admit(event("a"), lambda: None)
    assert window.admit(event("a", source="other"), lambda: None) is Admission.NEW


@pytest.mark.parametrize("other", [event("a", text="good-bye"), event("a", key="k")])
def test_another_content_under_the_same_name_is_no_repetition(window: DedupeWindow, other: Event) -> None:
    """I1: the other event was finished silently, without an answer."""
    finished: list[int] = []
    window.admit(event("a"), lambda: None)
    assert window.admit(other, lambda: finished.append(1)) is Admission.CONFLICT
    window.acknowledge(key_of(event("a")))
    assert window.admit(other, lambda: finished.append(2)) is Admission.CONFLICT
    assert finished == []


def test_the_time_of_an_event_is_no_content(window: DedupeWindow) -> None:
    window.admit(event("a", time_ms=1), lambda: None)
    assert window.admit(event("a", time_ms=2), lambda: None) is Admission.OPEN


def test_long_names_take_no_more_room_than_short_ones(window: DedupeWindow) -> None:
    """B22: ids were remembered verbatim, although clients choose their length."""
    window.admit(event("a" * (1 << 20)), lambda: None)
    window.acknowledge(key_of(event("a" * (1 << 20))))
    assert [(len(name), len(content)) for name, content in window._answered.items()] == [(16, 16)]


def test_the_oldest_answered_event_is_forgotten(window: DedupeWindow) -> None:
    for name in "abc":
        window.admit(event(name), lambda: None)
        window.acknowledge(key_of(event(name)))
    assert window.admit(event("a"), lambda: None) is Admission.NEW
    assert window.admit(event("c"), lambda: None) is Admission.ANSWERED


def test_waits_until_nothing_is_open(window: DedupeWindow) -> None:
    assert window.wait_until_none_open(0)
    window.admit(event("a"), lambda: None)
    assert window.num_open == 1
    assert not window.wait_until_none_open(0.01)
    window.acknowledge(key_of(event("a")))
    assert window.wait_until_none_open(0)


def test_a_conflicting_event_is_refused_with_its_place_and_a_bounded_detail() -> None:
    """B2: an id of characters that are written as escapes is ten times as long in words."""
    position = Position(topic="events.v1", partition=2, offset=7, generation=1)
    refused = conflicting_id(Received(record=event("\U000e0001" * 200), position=position, log_ms=9, mark=LogMark()))
    letter = refused.dead_letter
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == ("conflicting_id", "events.v1", 2, 7)
    assert refused.position == position
    assert len(letter.detail) == MAX_DETAIL_CHARS
