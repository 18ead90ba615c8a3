"""The records of Kafka topics: events, labels, dead letters, and quarantined labels; `answers` has the answers.

Rejected: one topic for all of them (whoever reads labels would read every text, too), and answers without the text (the
learner would have to join them with the events as well).
"""

from typing import ClassVar, TypeAlias

import msgspec

from wire.features import Features
from wire.records.admin import AdminAction
from wire.records.answers import Answer
from wire.records.record import Record
from wire.targets import sent_value, set_of


class Event(Record, frozen=True, kw_only=True):
    """A text to classify, features (numbers and categories by name, `wire.features`), or both.

    `id` is unique within `source`; `key` names the entity (customer, device) and decides the arm and the partition.
    `headers` are those of its message that its answer's message has, too; they are no part of its content. `tasks` are
    those that answer it (`wire.tasks`), "" the default one; without any, all tasks of the service do.
    """

    TOPIC: ClassVar[str] = "events.v1"
    TYPE: ClassVar[str] = "lifelong.event.v1"

    id: str
    text: str = ""
    key: str = ""
    source: str = ""
    time_ms: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    features: Features = {}
    tasks: tuple[str, ...] = ()

    @property
    def message_id(self) -> str:
        return self.id

    @property
    def entity(self) -> str:
        """The entity by which the arm is chosen: the key, or the id of an event without a key."""
        return self.key if self.key else self.id


class Feedback(Record, frozen=True, kw_only=True):
    """The label of an event that was answered, sent by `source` at `time_ms`.

    `event_source`, `key` and `receipt` are the answer's `source`, `key` and `receipt`, where the sender has them.
    `event_source` is None where the sender does not know it; "" is a source, that of plain JSON. `wire.events` joins
    the label with its answer. `approval` is made by an operator who releases a quarantined label. `wire.receipts`
    checks receipts and approvals. `text` and `features` are the event's: with them no answer is needed, so labels of
    any age and labelled history can be learnt. Where the answer waits, its own ones count. `answered` and `proof` are
    set by the learner alone, which has found the answer again for a late label: the label that was answered, and its
    own code over it and what the event says. Where events have sets of labels, `labels` is that of the event, where
    they have scores, `value` is it, and `label` is "". `task` is the one that the label is of, "" the default one.
    `replaces` is set by the reader of a mapped topic alone, whatever a message says: the label takes the place of the
    one before.
    """

    TOPIC: ClassVar[str] = "feedback.v1"
    TYPE: ClassVar[str] = "lifelong.feedback.v1"

    event_id: str
    label: str = ""
    key: str = ""
    source: str = ""
    time_ms: int = 0
    receipt: str = ""
    approval: str = ""
    event_source: str | None = None
    text: str = ""
    answered: str | None = None
    proof: str = ""
    features: Features = {}
    labels: tuple[str, ...] | None = None
    value: float | None = None
    task: str = ""
    replaces: bool = False

    @property
    def bare(self) -> "Feedback":
        """The label alone, without anything that is known of what its event says."""
        return msgspec.structs.replace(self, text="", features={}, answered=None, proof="")

    @property
    def target(self) -> str:
        """What the label says, as one string (`wire.targets`)."""
        if self.value is not None:
            return sent_value(self.value)
        return self.label if self.labels is None else set_of(self.labels)

    @property
    def message_id(self) -> str:
        found = "/found" if self.proof else ""  # the label itself is another message
        return f"{_qualified_id(self.event_id, self.event_source)}/{self.source}{found}{_of_task(self.task)}"

    @property
    def answered_entity(self) -> str:
        """The entity of the answer that is labelled."""
        return self.key if self.key else self.event_id

    @property
    def entity(self) -> str:
        """The partition key: the event's id, so that every label of an event lies in one partition."""
        return self.event_id


class DeadLetter(Record, frozen=True, kw_only=True):
    """A message that was refused: the reason, its origin, and the unchanged payload."""

    TOPIC: ClassVar[str] = "deadletter.v1"
    TYPE: ClassVar[str] = "lifelong.deadletter.v1"

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    payload: bytes
    source: str = ""
    time_ms: int = 0

    @property
    def message_id(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def entity(self) -> str:
        return self.message_id


class Quarantined(Record, frozen=True, kw_only=True):
    """A label that the learner refused or held, and the reason: the fields of its `Feedback`, and what it labels.

    `text`, `features` and `answered`, the label that the service gave, are set where the answer was known, and
    `event_source` is then the answer's. `detail` says what to do, where the reason alone does not. An operator may
    release the label. Where events have sets of labels, `labels` is that which was sent, and
    where they have scores, `value`.
    """

    TOPIC: ClassVar[str] = "quarantine.v1"
    TYPE: ClassVar[str] = "lifelong.quarantined.v1"

    reason: str
    event_id: str
    label: str = ""
    key: str = ""
    source: str = ""
    time_ms: int = 0
    receipt: str = ""
    text: str = ""
    answered: str | None = None
    event_source: str | None = None
    detail: str = ""
    features: Features = {}
    labels: tuple[str, ...] | None = None
    value: float | None = None
    task: str = ""

    @property
    def message_id(self) -> str:
        event = _qualified_id(self.event_id, self.event_source)
        return f"{event}/{self.source}/{self.reason}{_of_task(self.task)}"

    @property
    def entity(self) -> str:
        return self.event_id

    @property
    def bare(self) -> "Quarantined":
        """The label and the reason alone, without anything that is known of what its event says."""
        return msgspec.structs.replace(self, text="", features={}, answered=None)

    @property
    def feedback(self) -> Feedback:
        """The label as it was sent, with the text where that is known."""
        return Feedback(
            event_id=self.event_id,
            label=self.label,
            key=self.key,
            source=self.source,
            time_ms=self.time_ms,
            receipt=self.receipt,
            event_source=self.event_source,
            text=self.text,
            features=self.features,
            labels=self.labels,
            value=self.value,
            task=self.task,
        )


TopicRecord: TypeAlias = Event | Answer | Feedback | DeadLetter | Quarantined | AdminAction

TOPIC_RECORDS: tuple[type[TopicRecord], ...] = (Event, Answer, Feedback, DeadLetter, Quarantined, AdminAction)


def topic_name(prefix: str, record: type[TopicRecord]) -> str:
    """Returns the topic of a record in the environment `prefix`: `topic_name("eu.", Event)` is `eu.events.v1`."""
    return f"{prefix}{record.TOPIC}"


def _qualified_id(event_id: str, event_source: str | None) -> str:
    return event_id if event_source is None else f"{event_source}/{event_id}"


def _of_task(task: str) -> str:
    return f"/{task}" if task else ""
