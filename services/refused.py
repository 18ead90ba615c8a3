"""What the service refused, and an operator sends again: dead letters, and labels in quarantine.

    deadletter.v1 --> newest_letters --> an operator --> replay --> events.v1, feedback.v1
    quarantine.v1 --> quarantined_labels --> approved (signed with our key) --> feedback.v1 --> the learner

A letter is read as plain JSON, by the map of its topic where that is foreign, since it has not the headers of its
message: what could not be read still cannot. An event that the model could not answer counts as answered, so it is sent
under an id that says which letter it was; sending it twice is one event.

An approval makes a label believed, whoever sent it. So a label is named by an id of its own, which says who labelled
which event how and when; a label that nobody has proved is released only if its reason is named; and of several labels
of one event none is sent, since the last one would replace the others.

Both topics are logs: what was sent again stays in them until their retention ends. Sending again is idempotent.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from heapq import nlargest
from typing import Final

import msgspec

from rollout.plans import NotPossible
from wire.bus import Bus, every_record, readings
from wire.config import BusConfig
from wire.envelope import MAX_FIELD_BYTES, from_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.receipts import FORGED, MISSING, Receipts
from wire.records import DeadLetter, Event, Feedback, Quarantined

TIMEOUT_S = 30.0

REPLAYED: tuple[type[Event | Feedback], ...] = (Event, Feedback)
"""What a letter may hold that is sent again."""

SHOWN_BYTES = 2_000
"""How much of a payload is shown."""

ID_CHARS: Final = 20
"""Hexadecimal digits of a label's id: 80 bits, so that nobody finds a second label with the id of a first one."""

UNPROVEN: Final = (MISSING, FORGED)
"""Reasons of labels that anybody may have sent who can send labels at all."""


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


def id_of(label: Quarantined) -> str:
    """Returns the id of a quarantined label: of its event, its source, its reason, what it says, and its time."""
    said = msgspec.json.encode((label.message_id, label.feedback.said, label.time_ms))
    return sha256(said).hexdigest()[:ID_CHARS]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFilter:
    """Selects labels by their ids, their events, their reason and their source. An empty field matches all.

    `event_source` is the source of their events (None matches all). A label that names no source matches it, too.
    """

    ids: Collection[str] = ()
    event_ids: Collection[str] = ()
    reason: str = ""
    source: str = ""
    event_source: str | None = None

    @property
    def is_all(self) -> bool:
        return not (self.ids or self.event_ids or self.reason or self.source)

    def matches(self, label: Quarantined) -> bool:
        return (
            (not self.event_ids or label.event_id in self.event_ids)
            and (not self.ids or id_of(label) in self.ids)
            and (not self.reason or label.reason == self.reason)
            and (not self.source or label.source == self.source)
            and (self.event_source is None or label.event_source in (None, self.event_source))
        )

    def feedback_of(self, label: Quarantined) -> Feedback:
        """Returns the selected label as feedback, with the source of its event where that is known."""
        feedback = label.feedback
        if feedback.event_source is not None:
            return feedback
        return msgspec.structs.replace(feedback, event_source=self.event_source)


def quarantined_labels(bus: Bus, chosen: LabelFilter) -> Iterator[Quarantined]:
    """Yields the selected labels, each once, though the learner may send one again after a crash."""
    seen: set[str] = set()
    for label in every_record(bus, [Quarantined]):
        identity = id_of(label)
        if chosen.matches(label) and identity not in seen:
            seen.add(identity)
            yield label


@dataclass(frozen=True, slots=True)
class Release:
    """The labels that were sent to the learner again, and the number of those that were not, by their reason."""

    sent: tuple[Quarantined, ...]
    unproven: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """Yields what a person reads of it."""
        yield f"{len(self.sent)} sent to the learner again"
        for reason, num in self.unproven.items():
            yield f"{num} not sent: anybody may have sent what is {reason}; look at them, and add --reason {reason}"


def release(bus: Bus, receipts: Receipts, chosen: LabelFilter) -> Release:
    """Sends the selected labels to the learner again, approved; returns when the broker has all of them.

    A label of a reason in UNPROVEN is sent only if `chosen` names that reason. An approval is for the label of one
    event, so an ambiguous label needs `chosen.event_source`. Raises NotPossible, before anything is sent, if an id is
    unknown, or if several of the labels are of one event.
    """
    found = list(quarantined_labels(bus, chosen))
    unknown = set(chosen.ids) - {id_of(label) for label in found}
    if unknown:
        raise NotPossible(f"no such label lies in quarantine: {', '.join(sorted(unknown))}; `list` shows their ids")
    sent = [label for label in found if label.reason not in UNPROVEN or label.reason == chosen.reason]
    _check_one_an_event(sent, chosen)
    with closing(bus.publisher()) as publisher:
        publisher.send_all((receipts.approved(chosen.feedback_of(label)) for label in sent), TIMEOUT_S)
    return Release(tuple(sent), Counter(label.reason for label in found if label not in sent))


def _check_one_an_event(labels: Iterable[Quarantined], chosen: LabelFilter) -> None:
    """Raises NotPossible if several labels are, or may be, of one event: without a source it may be any of its id."""
    by_event: defaultdict[tuple[str, str], list[Quarantined]] = defaultdict(list)
    for label in labels:
        by_event[label.task, label.event_id].append(label)
    for (_, event_id), alike in by_event.items():
        sources = {chosen.feedback_of(label).event_source for label in alike}
        if len(alike) > len(sources - {None}) and len(alike) > 1:
            ids = ", ".join(id_of(label) for label in alike)
            raise NotPossible(f"{len(alike)} labels are of the event {event_id!r}: {ids}. Nothing was sent; name one")
