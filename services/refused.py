"""Sends refused messages again at the request of an operator: dead letters, and labels in quarantine.

    deadletter.v1 --> newest_letters --> an operator --> replay --> events.v1, feedback.v1
    quarantine.v1 --> quarantined_labels --> approved (signed with our key) --> feedback.v1 --> the learner

**Dead letters.** A dead letter has no headers of its message, so its payload is read as plain JSON, or by the message
map if the topic is foreign. A message that could not be read still cannot be read. An event that the model could not
answer counts as answered, so it is sent under a new id, which names the dead letter. Sent twice, it is still one event.

**Quarantine.** The learner believes an approved label, no matter who sent it. So:

- A label is selected by its own id, a digest of its event, source, reason, value and time.
- A label without a valid receipt is released only if its reason is named.
- If several labels of one event are selected, none is sent, since the last one would replace the others.

Both topics are logs: records that were sent again stay in them until their retention ends. Sending again is idempotent.
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
from wire.bus import Bus, read_all_records, readings
from wire.config import BusConfig
from wire.envelope import MAX_FIELD_BYTES, from_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.receipts import FORGED, MISSING, Receipts
from wire.records import DeadLetter, Event, Feedback, Quarantined

TIMEOUT_S = 30.0

REPLAYED: tuple[type[Event | Feedback], ...] = (Event, Feedback)
"""Types of the records in dead letters that can be sent again."""

SHOWN_BYTES = 2_000
"""Length of the beginning of a payload that is shown."""

ID_CHARS: Final = 20
"""Hexadecimal digits of a label's id: 80 bits, so that nobody can make a second label with the same id."""

UNPROVEN: Final = (MISSING, FORGED)
"""Reasons of labels without a valid receipt: everybody who can write to the topic may have sent them."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Ids of the dead letters that were sent again, and of those that cannot be sent, with the reason of each."""

    sent: tuple[str, ...]
    refused: dict[str, str]


def newest_letters(bus: Bus, limit: int) -> list[DeadLetter]:
    """Returns the newest dead letters, the newest first, with only the first SHOWN_BYTES of their payloads."""
    letters = (_shortened(letter) for letter in read_all_records(bus, [DeadLetter]))
    return nlargest(limit, letters, key=lambda letter: letter.time_ms)


def replay(bus: Bus, config: BusConfig, letter_ids: Collection[str]) -> Replayed:
    """Sends the events and labels in these dead letters again; returns when the broker has them."""
    records: dict[str, Event | Feedback] = {}
    refused = dict.fromkeys(letter_ids, "there is no such dead letter")
    for letter in read_all_records(bus, [DeadLetter]):
        if letter.message_id not in letter_ids:
            continue
        try:
            records[letter.message_id] = decode_dead_letter(letter, config)
            refused.pop(letter.message_id, None)
        except BadMessage as error:
            refused[letter.message_id] = f"{error.reason}: {error.detail}"
    with closing(bus.publisher()) as publisher:
        publisher.send_all(records.values(), TIMEOUT_S)
    return Replayed(tuple(records), refused)


def decode_dead_letter(letter: DeadLetter, config: BusConfig) -> Event | Feedback:
    """Returns the event or the label in a dead letter. Raises BadMessage if there is none.

    >>> letter = DeadLetter(reason="x", detail="", topic="events.v1", partition=0, offset=7, payload=b'{"text": "hi"}')
    >>> decode_dead_letter(letter, BusConfig()).id
    'events.v1/0/7'
    """
    reading = readings(config, REPLAYED).get(letter.topic)
    if reading is None:
        raise BadMessage("wrong_type", f"a dead letter of {letter.topic} has neither an event nor a label")
    message = Message(key=None, value=letter.payload, timestamp_ms=letter.time_ms)
    place = Place(topic=letter.topic, partition=letter.partition, offset=letter.offset)
    try:
        record = from_message(reading.record_type, message, place)
    except BadMessage:
        # An event without an answer is stored as a record of ours. Any other payload is the foreign message itself.
        if reading.foreign is None:
            raise
        record = from_message(reading.record_type, message, place, foreign=reading.foreign)
    if isinstance(record, Feedback) or record.id == str(place):
        return record
    return _with_letter_id(record, letter)


def _with_letter_id(event: Event, letter: DeadLetter) -> Event:
    event_id = f"{event.id}@{letter.message_id}"
    is_short = len(event_id.encode()) <= MAX_FIELD_BYTES
    return msgspec.structs.replace(event, id=event_id if is_short else letter.message_id)


def _shortened(letter: DeadLetter) -> DeadLetter:
    return msgspec.structs.replace(letter, payload=letter.payload[:SHOWN_BYTES])


def quarantine_id(label: Quarantined) -> str:
    """Returns the id of a quarantined label: a digest of its event, source, reason, value and time."""
    content = msgspec.json.encode((label.message_id, label.feedback.label_string, label.time_ms))
    return sha256(content).hexdigest()[:ID_CHARS]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFilter:
    """A filter for quarantined labels, by their ids, event ids, reason and source. An empty field matches all labels.

    `event_source` is the source of the events (None matches all). It also matches a label whose event has no known
    source.
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
            and (not self.ids or quarantine_id(label) in self.ids)
            and (not self.reason or label.reason == self.reason)
            and (not self.source or label.source == self.source)
            and (self.event_source is None or label.event_source in (None, self.event_source))
        )

    def to_feedback(self, label: Quarantined) -> Feedback:
        """Returns the selected label as feedback. If the source of its event is unknown, it becomes `event_source`."""
        feedback = label.feedback
        if feedback.event_source is not None:
            return feedback
        return msgspec.structs.replace(feedback, event_source=self.event_source)


def quarantined_labels(bus: Bus, chosen: LabelFilter) -> Iterator[Quarantined]:
    """Yields the selected labels, each once: after a crash the learner may send a label to the topic again."""
    seen: set[str] = set()
    for label in read_all_records(bus, [Quarantined]):
        identity = quarantine_id(label)
        if chosen.matches(label) and identity not in seen:
            seen.add(identity)
            yield label


@dataclass(frozen=True, slots=True)
class Release:
    """The labels that were sent to the learner again, and the number of labels that were not sent, by their reason."""

    sent: tuple[Quarantined, ...]
    unproven: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """Yields the result in sentences, one a line."""
        yield f"{len(self.sent)} sent to the learner again"
        for reason, num in self.unproven.items():
            yield f"{num} not sent: anybody may have sent these ({reason}). Check them, and add --reason {reason}"


def release(bus: Bus, receipts: Receipts, chosen: LabelFilter) -> Release:
    """Sends the selected labels to the learner again, approved; returns when the broker has all of them.

    A label with a reason in UNPROVEN is sent only if `chosen` names this reason. An approval is for the label of one
    event, so a label whose event id is ambiguous needs `chosen.event_source`. Raises NotPossible, before anything is
    sent, if an id is unknown, or if several of the labels are for one event.
    """
    labels = list(quarantined_labels(bus, chosen))
    unknown = set(chosen.ids) - {quarantine_id(label) for label in labels}
    if unknown:
        raise NotPossible(f"no such label lies in quarantine: {', '.join(sorted(unknown))}; `list` shows their ids")
    sent = [label for label in labels if label.reason not in UNPROVEN or label.reason == chosen.reason]
    _check_one_label_per_event(sent, chosen)
    with closing(bus.publisher()) as publisher:
        publisher.send_all((receipts.approved(chosen.to_feedback(label)) for label in sent), TIMEOUT_S)
    return Release(tuple(sent), Counter(label.reason for label in labels if label not in sent))


def _check_one_label_per_event(labels: Iterable[Quarantined], chosen: LabelFilter) -> None:
    """Raises NotPossible if several labels are, or may be, for one event.

    A label without an event source may be for any event with its id.
    """
    by_event: defaultdict[tuple[str, str], list[Quarantined]] = defaultdict(list)
    for label in labels:
        by_event[label.task, label.event_id].append(label)
    # Labels with different event sources are for different events; a label without one may be for any of them.
    for (_, event_id), rivals in by_event.items():
        sources = {chosen.to_feedback(label).event_source for label in rivals}
        if len(rivals) > 1 and len(rivals) > len(sources - {None}):
            ids = ", ".join(quarantine_id(label) for label in rivals)
            raise NotPossible(f"{len(rivals)} labels are for the event {event_id!r}: {ids}. Nothing was sent; name one")
