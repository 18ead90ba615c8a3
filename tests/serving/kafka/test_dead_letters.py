"""Dead letters of events that were read and are refused here or by the model."""

import msgspec

from serving.item import ItemFailure
from serving.kafka.dead_letters import conflicting_id, model_failure
from wire.bus import Position, Received
from wire.envelope import MAX_DETAIL_CHARS
from wire.records import Event

POSITION = Position(topic="events.v1", partition=2, offset=7, generation=1)


def test_a_letter_has_the_place_and_the_content_of_its_event() -> None:
    event = Event(id="a", text="hello", key="k", source="shop", time_ms=5)
    letter = conflicting_id(Received(record=event, position=POSITION, log_ms=9))
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == ("conflicting_id", "events.v1", 2, 7)
    assert (letter.source, letter.time_ms) == ("shop", 5)
    assert msgspec.json.decode(letter.payload, type=Event) == event


def test_the_detail_is_bounded_whatever_the_id_is() -> None:
    """B2: an id of characters that are written as escapes is ten times as long in words."""
    event = Event(id="\U000e0001" * 200, text="hello")
    conflict = conflicting_id(Received(record=event, position=POSITION, log_ms=9))
    failure = model_failure(ItemFailure(event=event, reason="model_failed"), POSITION)
    assert len(conflict.detail) == MAX_DETAIL_CHARS and len(failure.detail) <= MAX_DETAIL_CHARS
