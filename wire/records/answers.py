"""The record of an answer: what one task of the service answers, or several, to one event.

Rejected: a record for each task (an event is finished when its answer is, and each would carry the text and the vector
again), and the answers of all tasks in one list (readers that know no tasks find that of the default one at the top).
"""

from typing import ClassVar

import msgspec

from wire.features import Features
from wire.records.record import ArmName, Record
from wire.targets import sent_value, set_of


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
    one that the weights expect (None while they know none), `label` is None and `score` 0.
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

    @property
    def named(self) -> str | None:
        """What the weights name, as one string (`wire.targets`), also where the answer was refused."""
        if self.labels is not None:
            return set_of(self.labels)
        if self.value is not None:
            return sent_value(self.value)
        return self.scores[0][0] if self.refused and self.scores else self.label


class Answer(TaskAnswer, frozen=True, kw_only=True, omit_defaults=False):
    """The model's answer to one event, by `task` ("" the default one), and what others answer to it, in `tasks`.

    `text` and `features` are the event's, so that the learner needs no more than the answer and a label. `vector` is
    that of what the event says, where it can be used. `audit` asks for the label of the event, whatever the answer.
    `headers` are the event's, see there.
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
