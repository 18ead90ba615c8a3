"""The states of a labelled event: an answer that waits for its label, and the sample that both make. Pure.

    Answer --Waiting.from_answer--> Window of Waiting --joined with its label--> Sample --HoldoutDraw--> holdout, or
                                                           |                            training set, as Labelled
                                                           '--label not trusted--> Quarantined

Answers and labels wait in windows. A window is bounded in bytes, and first evicts the event id to which an item was
added least recently. The items are stored in encoded form, as in a checkpoint. This takes half the memory of the items
themselves, and a checkpoint of hundreds of thousands of items is written in milliseconds. The bound counts the encoded
bytes, plus OVERHEAD for each item, so it is close to the memory that the process uses.

Two sources may use the same ids, such as 1, 2, 3. But at most SAME_ID items share an id. So if a client gives the same
id to all events, a search looks at no more than SAME_ID items, and the client's items evict each other, and not the
items of other sources.
"""

import struct
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import mmh3
import msgspec

from wire.draws import keyed_uniform_hash
from wire.events import EventKey, content, encoded_key, with_later_time
from wire.inputs import decode_content, encode_content, fields_of, sent
from wire.kinds import is_right, render
from wire.recent import name_hash64
from wire.records import MAX_TEXT_CHARS, Answer, ConceptChange, Feedback, Quarantined

OVERHEAD: Final = 400
"""The bytes of memory that an item takes in addition to its encoding, as measured: the dictionary's key and entry."""

SAME_ID: Final = 8
"""The most items with the same id. The oldest item of the source with the most items is evicted first."""

_ARRAY_HEADER: Final = struct.Struct(">BI")

# The type byte of a long array in MessagePack.
_ARRAY_32: Final = 0xDD


class Level(NamedTuple):
    """The fill level of a window.

    `fill` is the share of its bytes that is in use. `room` is how many items of average size fit into half the window.
    """

    fill: float
    room: float


class Levels(NamedTuple):
    """The fill levels of the windows of the join."""

    answers: Level
    labels: Level


class Windowed(Protocol):
    """The fields that a window requires of its items."""

    @property
    def event_id(self) -> str: ...
    @property
    def source(self) -> str | None: ...


T = TypeVar("T", bound=Windowed)


class Window(Generic[T]):
    """A bounded store of answers or labels that wait to be joined, by event id.

    The id to which an item was added least recently is first. Equal items have equal encodings.
    """

    def __init__(self, item_type: type[T], max_bytes: int, items: Iterable[T] = ()) -> None:
        self._max_bytes = max_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(item_type).decode
        self._items = OrderedDict[str, tuple[bytes, ...]]()
        self._num_bytes = 0
        self._num_items = 0
        for item in items:
            self._put(item)

    def of(self, event_id: str) -> list[T]:
        """Returns the waiting items with this event id, oldest first."""
        return [self._decode(data) for data in self._items.get(event_id, ())]

    def add(self, item: T) -> list[T]:
        """Adds an item. Returns the items that had to be evicted for it."""
        self._put(item)
        evicted: list[T] = []
        if len(self._items[item.event_id]) > SAME_ID:
            evicted.append(_most_crowded(self.of(item.event_id)))
            self.remove(evicted[0])
        while self._num_bytes > self._max_bytes:
            evicted += self._pop_oldest()
        return evicted

    def remove(self, item: T) -> None:
        """Removes `item`, which must be present."""
        data = self._encode(item)
        remaining = list(self._items.pop(item.event_id))
        remaining.remove(data)
        if remaining:
            self._items[item.event_id] = tuple(remaining)
        self._count(-1, data)

    def replace(self, old: T, new: T) -> None:
        """Replaces `old`, which must be present, by `new`, which has the same id."""
        before = self._encode(old)
        after = self._encode(new)
        same = self._items[old.event_id]
        self._items[old.event_id] = tuple(after if data == before else data for data in same)
        self._count(-1, before)
        self._count(1, after)

    def newest(self, num_items: int) -> list[T]:
        """Returns the newest `num_items` items, oldest first."""
        encoded = list(chain.from_iterable(self._items.values()))[-num_items:]
        return [self._decode(data) for data in encoded]

    def export(self) -> msgspec.Raw:
        """Returns all items in their order, as one encoded array."""
        header = _ARRAY_HEADER.pack(_ARRAY_32, self._num_items)
        return msgspec.Raw(header + b"".join(chain.from_iterable(self._items.values())))

    @property
    def level(self) -> Level:
        mean = self._num_bytes / self._num_items if self._num_items else OVERHEAD
        return Level(fill=self._num_bytes / self._max_bytes, room=self._max_bytes / mean / 2)

    def __iter__(self) -> Iterator[T]:
        return (self._decode(data) for data in chain.from_iterable(self._items.values()))

    def __len__(self) -> int:
        return self._num_items

    def _put(self, item: T) -> None:
        data = self._encode(item)
        self._items[item.event_id] = (*self._items.pop(item.event_id, ()), data)
        self._count(1, data)

    def _pop_oldest(self) -> list[T]:
        _, same = self._items.popitem(last=False)
        for data in same:
            self._count(-1, data)
        return [self._decode(data) for data in same]

    def _count(self, num_items: int, data: bytes) -> None:
        self._num_items += num_items
        self._num_bytes += num_items * (OVERHEAD + len(data))


def _most_crowded(items: list[T]) -> T:
    """Returns the oldest item of the source with the most items."""
    sources = Counter(item.source for item in items)
    most = max(sources.values())
    return next(item for item in items if sources[item.source] == most)


MEASURED_SEED: Final = 0x6865_6C64
"""The seed of the hash that draws the holdout of a benchmark."""


WITHDRAWN: Final = "it was learnt before the alarm began, and was taken out"
"""The detail in the quarantine record of a label that was trusted and learnt at first."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A labelled event with its answer: its content and its true label, one string each (`wire.inputs`, `wire.kinds`).

    - `subject`: the key of the event, which identifies the person about whom it is.
    - `arm`: the arm of the rollout that answered. It is "" if the text came with the label; then the version that
      answered is unknown, and no answer is scored.
    - `is_correction`: the sample replaces an earlier label of its event. Its text is the label's text, if it has one.
    - `is_withdrawn`: the label is no longer trusted and is unlearnt. The text is "".
    - `is_in_holdout`: the sample is only used to measure accuracy, and never learnt.
    """

    event_id: str
    text: str
    label: str
    predicted_label: str | None
    arm: str
    weights_version: int
    feedback_time_ms: int
    subject: str
    is_in_holdout: bool
    source: str = ""
    is_approved: bool = False
    answer_time_ms: int = 0
    event_source: str = ""
    is_correction: bool = False
    is_withdrawn: bool = False
    task: str = ""

    @property
    def key(self) -> EventKey:
        return (self.event_source, self.event_id)

    @property
    def event(self) -> int:
        """The hash of the labelled event."""
        return name_hash64(encoded_key(self.key))

    def about(self, text: str, subject: str, time_ms: int) -> "Sample":
        """Returns this correction with the text, subject and answer time of the event whose label it corrects."""
        return msgspec.structs.replace(self, text=text, subject=subject, answer_time_ms=time_ms)

    @property
    def withdrawn(self) -> "Sample":
        """The sample that withdraws this sample: when it is learnt, this sample is unlearnt."""
        return msgspec.structs.replace(self, text="", arm="", is_withdrawn=True)

    @property
    def is_answered(self) -> bool:
        return bool(self.arm)

    @property
    def is_correct(self) -> bool:
        return is_right(self.predicted_label, self.label, encoded_key(self.key))


Learnable: TypeAlias = Sample | ConceptChange
"""An element of the stream that the learner learns."""


class Labelled(NamedTuple):
    """A sample to learn from: the content of an event and its label, one string each (`wire.inputs`, `wire.kinds`).

    - `label`: "" for an unlabelled text. The replay buffer and the holdout have no unlabelled texts.
    - `experience`: the number of slow rounds that had begun when the text came.
    - `event`: the hash of the event; 0 for a sample that was made of the name of a class.
    - `time_ms`: the time of the event; 0 if it is unknown.
    """

    text: str
    label: str
    subject: str = ""
    experience: int = 0
    event: int = 0
    time_ms: int = 0

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode()) + len(self.subject.encode())


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """The part of an answer that is kept until its label comes.

    `text` is the event's content. `later_ms` has the times of later answers to the same event.
    """

    event_id: str
    text: str
    label: str | None
    arm: str
    weights_version: int
    subject: str = ""
    time_ms: int = 0
    source: str = ""
    later_ms: tuple[int, ...] = ()

    @classmethod
    def from_answer(cls, answer: Answer) -> "Waiting":
        return cls(
            answer.event_id,
            content(answer),
            answer.prediction,
            answer.arm,
            answer.weights_version,
            answer.key,
            answer.time_ms,
            answer.source,
        )

    @classmethod
    def from_label(cls, feedback: Feedback, *, is_proved: bool = False) -> "Waiting":
        """Returns the event of a label that contains the event's text, as if its answer had waited.

        The label's field `answered`, the predicted label, counts only if it `is_proved`.
        """
        source = feedback.event_source if feedback.event_source is not None else ""
        text = encode_content(**{**fields_of(feedback), "text": feedback.text[:MAX_TEXT_CHARS]})
        answered = feedback.answered if is_proved else None
        return cls(feedback.event_id, text, answered, "", 0, feedback.key, feedback.time_ms, source)

    @classmethod
    def from_sample(cls, sample: Sample) -> "Waiting":
        """Returns the answer from which a sample was made. Its version and the times of later answers are missing."""
        return cls(
            sample.event_id,
            sample.text,
            sample.predicted_label,
            "",
            0,
            sample.subject,
            sample.answer_time_ms,
            sample.event_source,
        )

    @property
    def entity(self) -> str:
        return self.subject if self.subject else self.event_id

    @property
    def times_ms(self) -> tuple[int, ...]:
        return (self.time_ms, *self.later_ms)

    @property
    def key(self) -> EventKey:
        return (self.source, self.event_id)

    def is_same_event(self, answer: Answer) -> bool:
        """Returns whether `answer` is another answer to this event. Texts must be equal: clients may reuse an id."""
        own = (self.source, self.event_id, sent(self.text), self.subject)
        return own == (answer.source, answer.event_id, sent(content(answer)), answer.key)

    def with_repeat(self, answer: Answer) -> "Waiting":
        """Returns this answer with the time of a later `answer` to the same event."""
        _, *later_ms = with_later_time(self.times_ms, answer.time_ms)
        return msgspec.structs.replace(self, later_ms=tuple(later_ms))


@dataclass(frozen=True, slots=True)
class HoldoutDraw:
    """Decides which events belong to the holdout, by a keyed hash, so that no sender can predict it.

    `share` is the share of the holdout. A benchmark has no secret, and uses a hash without a key, so that its figures
    stay comparable.
    """

    share: float
    secret: bytes = b""

    def __call__(self, key: EventKey) -> bool:
        """Returns whether an event belongs to the holdout. The result is the same at every replay of the stream."""
        if not self.secret:
            return mmh3.hash(encoded_key(key), MEASURED_SEED, signed=False) < self.share * 2.0**32
        return keyed_uniform_hash(self.secret, encoded_key(key)) < self.share


def make_sample(answer: Waiting, feedback: Feedback, is_in_holdout: HoldoutDraw) -> Sample:
    """Makes a sample of an answer and its label."""
    return Sample(
        event_id=answer.event_id,
        text=answer.text,
        label=feedback.label_string,
        predicted_label=answer.label,
        arm=answer.arm,
        weights_version=answer.weights_version,
        feedback_time_ms=feedback.time_ms,
        subject=answer.subject,
        is_in_holdout=is_in_holdout(answer.key),
        source=feedback.source,
        is_approved=bool(feedback.approval),
        answer_time_ms=answer.time_ms,
        event_source=answer.key[0],
        task=feedback.task,
    )


def make_quarantined(reason: str, feedback: Feedback, answer: Waiting | None = None) -> Quarantined:
    """Makes the quarantine record of a label, with the fields of its answer if the answer is known."""
    event_source = feedback.event_source if answer is None else answer.source
    return Quarantined(
        reason=reason,
        event_id=feedback.event_id,
        label=feedback.label,
        labels=feedback.labels,
        value=feedback.value,
        target=feedback.target,
        key=feedback.key,
        source=feedback.source,
        time_ms=feedback.time_ms,
        receipt=feedback.receipt,
        **decode_content(answer.text if answer else ""),
        answered=render(answer.label) if answer and answer.label is not None else None,
        event_source=event_source,
        task=feedback.task,
    )


def quarantined_sample(sample: Sample) -> Quarantined:
    """Makes the quarantine record of a label that was trusted and learnt until a flip alarm was raised."""
    feedback = Feedback(
        event_id=sample.event_id,
        label=sample.label,
        key=sample.subject,
        source=sample.source,
        time_ms=sample.feedback_time_ms,
        task=sample.task,
    )
    record = make_quarantined("flip", feedback, Waiting.from_sample(sample))
    return msgspec.structs.replace(record, detail=WITHDRAWN)
