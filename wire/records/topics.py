"""The records of Kafka topics: events, answers, labels, dead letters, quarantined labels, and operators' actions.

    Event --> Answer: TaskAnswer of each task, TextVector          Feedback, or Quarantined --> the learner
    DeadLetter, AdminAction --> operators                          LogMark: a reader's position in a log

Rejected:

- One topic for all records: a reader of labels would have to read every text, too.
- Answers without the text: the learner would have to join answers with events, too.
- One message for each task: an event is finished when its answer is sent, and every message would repeat the text and
  the vector.
- The answers of all tasks in one list: a reader that does not know tasks finds the default task's answer at the top.
- A log file instead of AdminAction: anyone who can write the file can change its lines, and each machine has its own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from wire.inputs import EMPTY_CONTENT, Features, Part, fields_of
from wire.kinds import ANSWER_FIELDS, label_string
from wire.records.record import ArmName, Record

MAX_TEXT_TOKENS = 8_192
"""Highest number of tokens that a model may read of a text."""

_CHARS_PER_TOKEN = 16
_MIN_TEXT_CHARS = 16_384

MAX_TEXT_CHARS = _CHARS_PER_TOKEN * MAX_TEXT_TOKENS
"""Longest text that a record carries, in characters: room for MAX_TEXT_TOKENS tokens. A longer text is truncated."""

ADMIN: Final = "admin"
"""The message key of every `AdminAction`, so that all of them are in one partition, in the order of writing."""


def text_chars(max_tokens: int) -> int:
    """Returns the longest text that an `Answer` carries, in characters, if the model reads `max_tokens` of a text.

    >>> text_chars(256), text_chars(2_048), text_chars(8_192)
    (16384, 32768, 131072)
    """
    return min(max(_MIN_TEXT_CHARS, _CHARS_PER_TOKEN * max_tokens), MAX_TEXT_CHARS)


class LogMark(Record, frozen=True, kw_only=True):
    """Identifies the last record before an offset. The offset alone does not tell whether the log still has this
    record.

    - `log`: the id of the record's log ("": unknown).
    - `epoch`: the epoch of the partition leader that wrote the record (-1: unknown).
    - `log_ms`: the latest timestamp so far by the broker's clock (0: the topic has the senders' timestamps).
    - `skip_ms`: after the log lost records, records up to this time are skipped, since they were read before (0: none).
    """

    log: str = ""
    epoch: int = -1
    log_ms: int = 0
    skip_ms: int = 0


LogMarks: TypeAlias = Mapping[str, LogMark]
"""Marks by `topic/partition`."""


class TextVector(Record, frozen=True, kw_only=True):
    """The encoder's output for a text, so that the learner does not have to compute it again.

    - `z`: a unit vector, float32, little-endian.
    - `encoding`: names the weights, the length limit and the arithmetic. For the same text, equal names mean equal
      vectors, to the last bit.
    - `code`: proves that the service computed the vector (`wire.receipts`).
    """

    z: bytes
    encoding: str
    code: str


class TaskAnswer(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of one task to an event, and the weights that gave it.

    In the `tasks` of an `Answer`, fields that have their default values are omitted.

    - `label`: the predicted class, and `score` its probability. None while the weights know no class.
    - `scores`: the best few classes with their probabilities, best first.
    - `receipt`: proves that the service gave the answer (`wire.receipts`).
    - `certainty`: the share of the learner's holdout samples about which the weights are less certain than about this
      event (None: not requested).
    - `refused`: the answer is not certain enough. `label` is then the fallback label, and the first of `scores` is the
      class that the weights predict.

    If labels are not single classes, `label` is None, and another field has the answer:

    - Sets of labels: `labels` has the predicted labels, best first (None while the weights know no class), and `score`
      is the probability of the best one.
    - Scores: `value` is the expected score (None while the weights know no score), and `score` is 0.
    - Any other kind of label: `output` is an object with the name of the `kind` and the answer in that kind's fields.
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
    def prediction(self) -> str | None:
        """The prediction of the weights as one string (`wire.kinds`); None if the weights knew nothing."""
        # A refused answer has the fallback label in `label`, and the predicted class first in `scores`.
        if self.refused and self.scores:
            return self.scores[0][0]
        if self.label is None and self.labels is None and self.value is None and self.output is None:
            return None
        return label_string(self, ANSWER_FIELDS)


class Answer(TaskAnswer, frozen=True, kw_only=True, omit_defaults=False):
    """The model's answer to one event: the answer of `task`, and the answers of the other tasks in `tasks`.

    - `task`: the name of the task ("": the default task).
    - `text`, `features` and `parts`: the content of the event, as much of it as the model reads. So the learner needs
      only the answer and a label.
    - `vector`: the encoder's output for this content, if the learner can use it.
    - `audit`: the event is in the random sample of events whose labels are always requested.
    - `headers`: the headers that are copied from the event's message (`Event.headers`).
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
        """Returns the answer of `task` without the other tasks' answers; None if that task did not answer."""
        if task == self.task:
            return msgspec.structs.replace(self, tasks={}) if self.tasks else self
        task_answer = self.tasks.get(task)
        if task_answer is None:
            return None
        return msgspec.structs.replace(self, task=task, tasks={}, **msgspec.structs.asdict(task_answer))


class AdminAction(Record, frozen=True, kw_only=True):
    """An entry of the audit log: an action that `client` requested on the admin page or by a command, and its
    `outcome`.

    - `outcome`: `asked` before the action, then `done`, `failed` or `refused`.
    - `source` and `number`: the process that wrote the entry, and the number of the entry in this process, from 1.
    - `previous`: the code of the last entry that this process had read or written ("" for the very first entry).
    - `code`: proves that this installation wrote this entry after the `previous` one (`services.admin_log`).
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
    """An event to answer: a text, features (numbers and categories by name), parts of other types, or several of these.

    - `id`: unique within `source`.
    - `key`: names the entity, such as a customer or a device. It decides the arm and the partition.
    - `headers`: the headers of the event's message that are copied to the answer's message. They are not content.
    - `parts`: inputs of other types (`wire.inputs`).
    - `tasks`: the tasks that answer the event (`wire.tasks`); "" is the default task. Empty: all tasks of the service.
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
        """The entity by which the arm is chosen: the key, or the event's id if it has no key."""
        return self.key if self.key else self.id


class Feedback(Record, frozen=True, kw_only=True):
    """The label of an event, sent by `source` at `time_ms`. `wire.events` joins it with the answer to the event.

    One of these fields has the label:

    - `label`: a class ("" if another field has the label).
    - `labels`: a set of labels.
    - `value`: a score.
    - `target`: a label of any other kind: an object with the name of the `kind` and the label in that kind's fields.

    These fields say which answer is labelled:

    - `event_source`, `key`, `receipt`: the answer's `source`, `key` and `receipt`, if the sender knows them. An
      `event_source` of None is unknown; "" is a source, too: the source of events in plain JSON.
    - `task`: the task that the label is for ("": the default task).

    These fields are optional:

    - `text`, `features`, `parts`: the content of the event. A label with its content needs no answer, so labels of any
      age and labelled history can be learnt. If the answer still waits for its label, the answer's content counts.
    - `approval`: made when an operator releases a quarantined label. `wire.receipts` checks receipts and approvals.

    Only the service sets these fields:

    - `answered`, `proof`: set by the learner when it has found the answer of a late label: the label that was
      answered, and a code over that label and the content.
    - `replaces`: set by the reader of a mapped topic: the label replaces an earlier label of the event. A value in a
      message is ignored.
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
        """The label without the content of its event."""
        return msgspec.structs.replace(self, **EMPTY_CONTENT, answered=None, proof="")

    @property
    def label_string(self) -> str:
        """The label as one string, whatever its kind (`wire.kinds`)."""
        return label_string(self)

    @property
    def message_id(self) -> str:
        # A late label is sent again with its answer. That is another message than the label itself.
        suffix = "/found" if self.proof else ""
        return f"{_qualified_id(self.event_id, self.event_source)}/{self.source}{suffix}{_task_suffix(self.task)}"

    @property
    def answered_entity(self) -> str:
        """The entity of the answer that is labelled."""
        return self.key if self.key else self.event_id

    @property
    def entity(self) -> str:
        """The partition key: the event's id, so that all labels of an event are in one partition."""
        return self.event_id


class DeadLetter(Record, frozen=True, kw_only=True):
    """A message that was refused: the reason, where the message came from, and its unchanged payload."""

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
    """A label that the learner refused or holds, and the reason. An operator may release it.

    It has the fields of its `Feedback`, and the content of the event:

    - `detail`: says what to do, if the reason alone does not say it.
    - `text`, `features`, `parts`, `answered`, `event_source`: the content of the event, the label that the service
      answered, and the answer's source, if the answer was known.
    - `label`, `labels`, `value`, `target`: the label, as in `Feedback`.
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
        return f"{event}/{self.source}/{self.reason}{_task_suffix(self.task)}"

    @property
    def entity(self) -> str:
        return self.event_id

    @property
    def bare(self) -> "Quarantined":
        """The label and the reason, without the content of the event."""
        return msgspec.structs.replace(self, **EMPTY_CONTENT, answered=None)

    @property
    def feedback(self) -> Feedback:
        """The label as it was sent, with the event's content if that is known."""
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
    """Returns the topic of a record type in the environment `prefix`: `topic_name("eu.", Event)` is `eu.events.v1`."""
    return f"{prefix}{record.TOPIC}"


def _qualified_id(event_id: str, event_source: str | None) -> str:
    return event_id if event_source is None else f"{event_source}/{event_id}"


def _task_suffix(task: str) -> str:
    return f"/{task}" if task else ""
