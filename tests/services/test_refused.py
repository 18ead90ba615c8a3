"""Tests that the newest dead letters are shown, and that their events and labels are sent again."""

import msgspec
import pytest

from services.refused import SHOWN_BYTES, decode_dead_letter, newest_letters, replay
from tests.brokers import take
from wire.bus import Bus
from wire.config import BusConfig
from wire.dead_letters import refuse_event
from wire.errors import BadMessage
from wire.mapping import EventMap, MapConfig
from wire.message import Place
from wire.records import DeadLetter, Event, Feedback, topic_name

EVENT = Event(id="e-1", text="my parcel", key="k", source="shop", time_ms=5)


def letter(prefix: str, payload: bytes, *, offset: int, topic: type[Event] | type[Feedback] = Event) -> DeadLetter:
    name = topic_name(prefix, topic)
    return DeadLetter(
        reason="empty", detail="", topic=name, partition=0, offset=offset, payload=payload, time_ms=offset
    )


def test_an_event_is_sent_under_an_id_that_names_its_letter() -> None:
    """Under its own id the event counts as answered."""
    refused = refuse_event("unanswerable", "x", EVENT, Place(topic="events.v1", partition=2, offset=7))
    record = decode_dead_letter(refused, BusConfig())
    assert record == msgspec.structs.replace(EVENT, id="e-1@events.v1/2/7")
    long = msgspec.structs.replace(EVENT, id="i" * 1_024)
    refused = refuse_event("unanswerable", "x", long, Place(topic="events.v1", partition=2, offset=7))
    again = decode_dead_letter(refused, BusConfig())
    assert isinstance(again, Event) and again.id == "events.v1/2/7"


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [("events.v1", b"{", "undecodable"), ("feedback.v1", b"{}", "wrong_schema"), ("answers.v1", b"{}", "wrong_type")],
)
def test_what_cannot_be_read_cannot_be_sent(topic: str, payload: bytes, reason: str) -> None:
    unreadable = DeadLetter(reason="x", detail="", topic=topic, partition=0, offset=0, payload=payload)
    with pytest.raises(BadMessage) as raised:
        decode_dead_letter(unreadable, BusConfig())
    assert raised.value.reason == reason


def test_a_letter_of_a_foreign_topic_is_read_by_its_map() -> None:
    config = BusConfig(map=MapConfig(events=EventMap(topic=("tickets",), text="{body}", id="{number}")))
    foreign = DeadLetter(
        reason="x", detail="", topic="tickets", partition=0, offset=7, payload=b'{"body": "hi", "number": "T1"}'
    )
    record = decode_dead_letter(foreign, config)
    assert isinstance(record, Event) and (record.text, record.id) == ("hi", "T1@tickets/0/7")
    refused = refuse_event("unanswerable", "x", EVENT, Place(topic="tickets", partition=0, offset=8))
    assert decode_dead_letter(refused, config) == msgspec.structs.replace(EVENT, id="e-1@tickets/0/8")


@pytest.mark.live
def test_letters_are_listed_and_sent_again(bus: Bus, bus_config: BusConfig) -> None:
    prefix = bus_config.prefix
    place = Place(topic=topic_name(prefix, Event), partition=0, offset=2)
    letters = [
        letter(prefix, b"x" * 9_000, offset=1),
        msgspec.structs.replace(refuse_event("unanswerable", "x", EVENT, place), time_ms=2),
        letter(prefix, b'{"event_id": "e-1", "label": "delivery"}', offset=3, topic=Feedback),
    ]
    bus.publisher().send_all(letters, 10)
    shown = newest_letters(bus, 2)
    assert [each.offset for each in shown] == [3, 2]
    assert len(newest_letters(bus, 9)[-1].payload) == SHOWN_BYTES
    ids = [each.message_id for each in letters]
    replayed = replay(bus, bus_config, [*ids, "nowhere/0/0"])
    assert sorted(replayed.sent) == sorted(ids[1:])
    assert replayed.refused["nowhere/0/0"] == "there is no such dead letter"
    assert replayed.refused[ids[0]].startswith("undecodable")
    (event,) = take(bus.follow([Event], {}).poll, 1)
    assert event.record.text == EVENT.text
    (label,) = take(bus.follow([Feedback], {}).poll, 1)
    assert label.record.label == "delivery"
