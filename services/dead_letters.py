"""Dead letters: the newest ones, and events and labels in them that are sent again.

    deadletter.v1 --> newest_letters --> an operator --> replay --> events.v1, feedback.v1

A letter is read as plain JSON, by the map of its topic where that is foreign, since it has not the headers of its
message: what could not be read still cannot. An event that the model could not answer counts as answered, so it is sent
under an id that says which letter it was; sending it twice is one event. The topic is a log: a letter stays in it until
its retention ends.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from heapq import nlargest

import msgspec

from wire.bus import Bus, every_record, readings
from wire.config import BusConfig
from wire.envelope import MAX_FIELD_BYTES, from_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.records import DeadLetter, Event, Feedback

TIMEOUT_S = 30.0

REPLAYED: tuple[type[Event | Feedback], ...] = (Event, Feedback)
"""What a letter may hold that is sent again."""

SHOWN_BYTES = 2_000
"""How much of a payload is shown."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The letters that were sent again, and those that cannot be, each with the reason."""

    sent: tuple[str, ...]
    refused: dict[str, str]


def newest_letters(bus: Bus, limit: int) -> list[DeadLetter]:
    """Returns the newest letters by their time, the newest first, with the beginnings of their payloads."""
    letters = (_shortened(letter) for letter in every_record(bus, [DeadLetter]))
    return nlargest(limit, letters, key=lambda letter: letter.time_ms)


def replay(bus: Bus, config: BusConfig, letter_ids: Collection[str]) -> Replayed:
    """Sends the events and labels in these letters again; returns when the broker has them."""
    records: dict[str, Event | Feedback] = {}
    refused = dict.fromkeys(letter_ids, "there is no such letter")
    for letter in every_record(bus, [DeadLetter]):
        if letter.message_id not in letter_ids:
            continue
        try:
            records[letter.message_id] = record_in(letter, config)
            refused.pop(letter.message_id, None)
        except BadMessage as error:
            refused[letter.message_id] = f"{error.reason}: {error.detail}"
    with closing(bus.publisher()) as publisher:
        publisher.send_all(records.values(), TIMEOUT_S)
    return Replayed(tuple(records), refused)


def record_in(letter: DeadLetter, config: BusConfig) -> Event | Feedback:
    """Returns the event or the label in a letter. Raises BadMessage where there is none.

    >>> letter = DeadLetter(reason="x", detail="", topic="events.v1", partition=0, offset=7, payload=b'{"text": "hi"}')
    >>> record_in(letter, BusConfig()).id
    'events.v1/0/7'
    """
    reading = readings(config, REPLAYED).get(letter.topic)
    if reading is None:
        raise BadMessage("wrong_type", f"a letter of {letter.topic} has neither an event nor a label")
    message = Message(key=None, value=letter.payload, timestamp_ms=letter.time_ms)
    place = Place(topic=letter.topic, partition=letter.partition, offset=letter.offset)
    try:
        record = from_message(reading.record_type, message, place)
    except BadMessage:  # no record of ours, as the letter of an event is that had no answer
        if reading.foreign is None:
            raise
        record = from_message(reading.record_type, message, place, foreign=reading.foreign)
    return record if isinstance(record, Feedback) or record.id == str(place) else _renamed(record, letter)


def _renamed(event: Event, letter: DeadLetter) -> Event:
    event_id = f"{event.id}@{letter.message_id}"
    is_short = len(event_id.encode()) <= MAX_FIELD_BYTES
    return msgspec.structs.replace(event, id=event_id if is_short else letter.message_id)


def _shortened(letter: DeadLetter) -> DeadLetter:
    return msgspec.structs.replace(letter, payload=letter.payload[:SHOWN_BYTES])
