"""A labelled sample, and the part of an answer that is kept until its label comes. Pure.

Answer --Waiting.from_answer--> Waiting --joined with its label--> Sample --HoldoutDraw--> holdout, or training set
                                             label not trusted --> Quarantined

Rejected: drawing the holdout by a generator (its state would be one more thing to keep, and an event that comes again
might be learnt the second time).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import mmh3
import msgspec

from wire.agreement import is_right
from wire.draws import keyed_place
from wire.events import EventKey, content, encoded_key, with_later_time
from wire.features import content_of, own_content, parts_of
from wire.recent import hash_of
from wire.records import MAX_TEXT_CHARS, Answer, ConceptChange, Feedback, Quarantined
from wire.targets import shown_label

MEASURED_SEED: Final = 0x6865_6C64
"""Seed of the hash that draws the holdout of a measurement."""


WITHDRAWN: Final = "it was learnt before the alarm began, and was taken out"
"""What is told of a label that was believed at first."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what an event says and its true label, as one string each (`wire.features`, `wire.targets`). `subject` is
    its key.

    Where the text came with the label, no version is known: `arm` is "", and nothing is scored. A correction replaces
    what was learnt of its event, and has the text of its label, if that has one. One that `is_withdrawn` is no longer
    believed: it takes out what was learnt of it, and has no text.

    A sample with `is_in_holdout` belongs to the holdout: accuracy is measured on it, and it is never learnt.
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
        """The hash of the event that is labelled."""
        return hash_of(encoded_key(self.key))

    def about(self, text: str, subject: str, time_ms: int) -> "Sample":
        """Returns this label as that of `text`, which is about `subject` and was answered at `time_ms`."""
        return msgspec.structs.replace(self, text=text, subject=subject, answer_time_ms=time_ms)

    @property
    def withdrawn(self) -> "Sample":
        """What takes out again what was learnt of this sample."""
        return msgspec.structs.replace(self, text="", arm="", is_withdrawn=True)

    @property
    def is_answered(self) -> bool:
        return bool(self.arm)

    @property
    def is_correct(self) -> bool:
        return is_right(self.predicted_label, self.label, encoded_key(self.key))


Learnable: TypeAlias = Sample | ConceptChange
"""What is learnt, in the order of the stream."""


class Labelled(NamedTuple):
    """Holds what an event says and its label, as one string each (`wire.features`, `wire.targets`).

    The label is "" where there is none; no memory holds such a text. `experience` is the number of slow rounds that
    had begun when the text came. `event` is the hash of the event that it came from, 0 where it came from none, and
    `time_ms` the time of that event, 0 where it is not known.
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
    """Holds the part of an answer that is kept until its label comes. `text` is the event's content.

    `later_ms` has the times of later answers to the same event. `source` is None in checkpoints from before the source
    was stored.
    """

    event_id: str
    text: str
    label: str | None
    arm: str
    weights_version: int
    subject: str = ""
    time_ms: int = 0
    source: str | None = None
    later_ms: tuple[int, ...] = ()

    @classmethod
    def from_answer(cls, answer: Answer) -> "Waiting":
        return cls(
            answer.event_id,
            content(answer),
            answer.named,
            answer.arm,
            answer.weights_version,
            answer.key,
            answer.time_ms,
            answer.source,
        )

    @classmethod
    def from_label(cls, feedback: Feedback, *, is_proved: bool = False) -> "Waiting":
        """Returns the event of a label that carries its text. Its answer counts only where it `is_proved`."""
        source = feedback.event_source if feedback.event_source is not None else ""
        text = content_of(feedback.text[:MAX_TEXT_CHARS], feedback.features)
        answered = feedback.answered if is_proved else None
        return cls(feedback.event_id, text, answered, "", 0, feedback.key, feedback.time_ms, source)

    @classmethod
    def from_sample(cls, sample: Sample) -> "Waiting":
        """Returns the answer that a sample was made of, without its version and the times of later ones."""
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
        return (self.source if self.source is not None else "", self.event_id)

    def is_same_event(self, answer: Answer) -> bool:
        """Whether `answer` is another answer to this event. The text counts too, since clients use an id twice."""
        own = (self.event_id, own_content(self.text), self.subject)
        is_same = own == (answer.event_id, own_content(content(answer)), answer.key)
        return is_same and self.source in (None, answer.source)

    def with_repeat(self, answer: Answer) -> "Waiting":
        """Returns this answer with the source of `answer`, a later one to the same event, and with its time."""
        _, *later_ms = with_later_time(self.times_ms, answer.time_ms)
        return msgspec.structs.replace(self, source=answer.source, later_ms=tuple(later_ms))


@dataclass(frozen=True, slots=True)
class HoldoutDraw:
    """Draws the events that are the holdout: no sender can tell which they are.

    A measurement has no secret. Its draw stays that of a hash without a key, so that figures stay comparable.
    """

    share: float
    secret: bytes = b""

    def __call__(self, key: EventKey) -> bool:
        """Whether the event belongs to the holdout: the same at every replay of the stream."""
        if not self.secret:
            return mmh3.hash(encoded_key(key), MEASURED_SEED, signed=False) < self.share * 2.0**32
        return keyed_place(self.secret, encoded_key(key)) < self.share


def make_sample(answer: Waiting, feedback: Feedback, is_in_holdout: HoldoutDraw) -> Sample:
    """Returns the sample of an answer and its label."""
    return Sample(
        event_id=answer.event_id,
        text=answer.text,
        label=feedback.target,
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
    """Returns the record of a label that is not trusted, with what is known of its answer."""
    event_source = feedback.event_source
    text, features = parts_of(answer.text) if answer else ("", {})
    if answer is not None and answer.source is not None:
        event_source = answer.source
    return Quarantined(
        reason=reason,
        event_id=feedback.event_id,
        label=feedback.label,
        labels=feedback.labels,
        value=feedback.value,
        key=feedback.key,
        source=feedback.source,
        time_ms=feedback.time_ms,
        receipt=feedback.receipt,
        text=text,
        features=features,
        answered=shown_label(answer.label) if answer and answer.label is not None else None,
        event_source=event_source,
        task=feedback.task,
    )


def quarantined_sample(sample: Sample) -> Quarantined:
    """Returns the record of a label of a class that was believed until a flip was noticed."""
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
