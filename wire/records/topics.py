"""The records of Kafka topics: events, answers, labels, dead letters, quarantined labels, and what operators did.

    Event --> Answer: TaskAnswer of each task, TextVector          Feedback, or Quarantined --> the learner
    DeadLetter, AdminAction --> operators                          LogMark: what a reader knows of a log it has read

Rejected: one topic for all of them (whoever reads labels would read every text, too), answers without the text (the
learner would have to join them with the events as well), an answer for each task (an event is finished when its answer
is, and each would carry the text and the vector again), the answers of all tasks in one list (readers that know no
tasks find that of the default one at the top), and the log of the process in the place of AdminAction (whoever can
write the file can change what is in it, and each machine has its own).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from wire.inputs import NOTHING_SAID, Features, Part, fields_of
from wire.kinds import ANSWER_FIELDS, said_by
from wire.records.record import ArmName, Record

MAX_TEXT_TOKENS = 8_192
"""Most tokens of a text that a model may read."""

_CHARS_PER_TOKEN = 16
_MIN_TEXT_CHARS = 16_384

MAX_TEXT_CHARS = _CHARS_PER_TOKEN * MAX_TEXT_TOKENS
"""Longest text that a record carries, in characters: that of so many tokens. Of a longer one the beginning is read."""

ADMIN: Final = "admin"
"""The key of every `AdminAction`: all lie in one partition, in the order in which they were written."""


def text_chars(max_tokens: int) -> int:
    """Returns how much of a text an `Answer` carries back, in characters, where the model reads `max_tokens` of it.

    >>> text_chars(256), text_chars(2_048), text_chars(8_192)
    (16384, 32768, 131072)
    """
    return min(max(_MIN_TEXT_CHARS, _CHARS_PER_TOKEN * max_tokens), MAX_TEXT_CHARS)


class LogMark(Record, frozen=True, kw_only=True):
    """What is known of the last record before an offset: an offset alone does not say whether the log still has it.

    `log` is the id of its log ("": unknown), `epoch` that of the leader that wrote it (-1: unknown), and `log_ms` the
    latest time of the records so far by the broker's clock (0: the clock is the senders'). After a loss, records that
    are not newer than `skip_ms` are skipped, since they were read before (0: none).
    """

    log: str = ""
    epoch: int = -1
    log_ms: int = 0
    skip_ms: int = 0


LogMarks: TypeAlias = Mapping[str, LogMark]
"""Marks by `topic/partition`."""


class TextVector(Record, frozen=True, kw_only=True):
    """What the encoder has made of a text, for a learner that would make the same of it.

    `z` is a unit vector, float32, little-endian. `encoding` names weights, length limit and arithmetic: equal names
    give equal vectors, to the last bit. `code` proves that the service made it, see `wire.receipts`.
    """

    z: bytes
    encoding: str
    code: str


class TaskAnswer(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What one task answers to an event, and the weights that did.

    Within an `Answer` it is sent without the fields that have their defaults.

    `label` is None while the weights know no class. `scores` are the best few classes with their probabilities, best
    first. `receipt` proves that the service gave the answer, see `wire.receipts`. `certainty` is the share of the
    learner's holdout samples that the weights are less certain of (None: nobody asked); an answer that is `refused` for
    it has the fallback label, and the class that the weights name first in its `scores`.

    Where events have sets of labels, `labels` are those that the weights name, best first (None while they know no
    class), `label` is None, and `score` is the probability of the best class. Where they have scores, `value` is the
    one that the weights expect (None while they know none), `label` is None and `score` 0. Where they have labels of a
    kind without a field of its own, `output` is an object with the name of the `kind`, and what that says.
    """

    label: str | None
    score: float
    weights_version: int
    arm: ArmName
    precision: str
    rollout_revision: int
    scores: tuple[tuple[str, float], ...] = ()
    receipt: str = ""
    refused: bool = False
    certainty: float | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None
    output: dict[str, Any] | None = None

    @property
    def named(self) -> str | None:
        """What the weights name, as one string (`wire.kinds`), also where the answer was refused."""
        if self.refused and self.scores:
            return self.scores[0][0]
        if self.label is None and self.labels is None and self.value is None and self.output is None:
            return None
        return said_by(self, ANSWER_FIELDS)


class Answer(TaskAnswer, frozen=True, kw_only=True, omit_defaults=False):
    """The model's answer to one event, by `task` ("" the default one), and what others answer to it, in `tasks`.

    `text`, `features` and `parts` are the event's, as far as they are read, so that the learner needs no more than the
    answer and a label. `vector` is that of what the event says, where it can be used. `audit` asks for the label of the
    event, whatever the answer. `headers` are the event's, see there.
    """

    TOPIC: ClassVar[str] = "answers.v1"
    TYPE: ClassVar[str] = "lifelong.answer.v1"

    event_id: str
    text: str
    key: str = ""
    source: str = ""
    event_time_ms: int = 0
    time_ms: int = 0
    vector: TextVector | None = None
    audit: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    features: Features = {}
    parts: tuple[Part, ...] = ()
    task: str = ""
    tasks: dict[str, TaskAnswer] = {}

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def entity(self) -> str:
        return self.key if self.key else self.event_id

    def of_task(self, task: str) -> "Answer | None":
        """Returns the answer of this task alone; None where it did not answer."""
        if task == self.task:
            return msgspec.structs.replace(self, tasks={}) if self.tasks else self
        found = self.tasks.get(task)
        if found is None:
            return None
        return msgspec.structs.replace(self, task=task, tasks={}, **msgspec.structs.asdict(found))


class AdminAction(Record, frozen=True, kw_only=True):
    """A call that changes something, by `client`, and what became of it: `asked`, then `done`, `failed` or `refused`.

    `number` counts the records of `source`, a page, from 1. `previous` is the code of the record before this one, as
    far as that page knew ("" for the first of all), and `code` proves that one of ours wrote this record after that
    one: see `services.admin_log`.
    """

    TOPIC: ClassVar[str] = "audit.v1"
    TYPE: ClassVar[str] = "lifelong.adminaction.v1"

    action: str
    outcome: str
    detail: str = ""
    client: str = ""
    number: int = 0
    source: str = ""
    time_ms: int = 0
    previous: str = ""
    code: str = ""

    @property
    def message_id(self) -> str:
        return f"{self.source}/{self.number}"

    @property
    def entity(self) -> str:
        return ADMIN


class Event(Record, frozen=True, kw_only=True):
    """A text to classify, features (numbers and categories by name), parts of other types (`wire.inputs`), or several
    of them.

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
    parts: tuple[Part, ...] = ()
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
    checks receipts and approvals. `text`, `features` and `parts` are the event's: with them no answer is needed, so
    labels of any age and labelled history can be learnt. Where the answer waits, its own ones count. `answered` and
    `proof` are set by the learner alone, which has found the answer again for a late label: the label that was
    answered, and its own code over it and what the event says. Where events have sets of labels, `labels` is that
    of the event, where they have scores, `value` is it, and `label` is "". Where they have labels of a kind without
    a field of its own, `target` is an object with the name of the `kind`, and what that says. `task` is the one
    that the label is of, "" the default one.
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
    parts: tuple[Part, ...] = ()
    labels: tuple[str, ...] | None = None
    value: float | None = None
    target: dict[str, Any] | None = None
    task: str = ""
    replaces: bool = False

    @property
    def bare(self) -> "Feedback":
        """The label alone, without anything that is known of what its event says."""
        return msgspec.structs.replace(self, **NOTHING_SAID, answered=None, proof="")

    @property
    def said(self) -> str:
        """What the label says, as one string (`wire.kinds`)."""
        return said_by(self)

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

    `text`, `features`, `parts` and `answered`, the label that the service gave, are set where the answer was known, and
    `event_source` is then the answer's. `detail` says what to do, where the reason alone does not. An operator may
    release the label. `labels`, `value` and `target` are those of the label, where events have such.
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
    parts: tuple[Part, ...] = ()
    labels: tuple[str, ...] | None = None
    value: float | None = None
    target: dict[str, Any] | None = None
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
        return msgspec.structs.replace(self, **NOTHING_SAID, answered=None)

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
            **fields_of(self),
            labels=self.labels,
            value=self.value,
            target=self.target,
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
