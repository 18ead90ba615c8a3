"""A sample, and what is kept of an answer until its label makes it one. Pure.

Answer --Waiting.of--> Waiting --its label--> Sample --is_held_back--> measured on, or learnt
"""

from typing import Final

import mmh3
import msgspec

from wire.events import EventKey, text_of
from wire.records import Answer

HELD_BACK_SEED: Final = 0x6865_6C64

LATER_TIMES: Final = 7
"""Later answers to one event whose receipts are good beside that of the first."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """An answered text with its true label. `subject`: the event's key. `is_held_back`: measure, never learn."""

    event_id: str
    text: str
    label: str
    predicted_label: str | None
    arm: str
    weights_version: int
    feedback_time_ms: int
    subject: str
    is_held_back: bool
    source: str = ""
    is_approved: bool = False
    answer_time_ms: int = 0
    event_source: str = ""

    @property
    def key(self) -> EventKey:
        return (self.event_source, self.event_id)

    @property
    def is_correct(self) -> bool:
        return self.predicted_label == self.label


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of an answer until its label comes. `later_ms`: of later answers to the same event.

    `source` is None in checkpoints from before it was kept.
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
    def of(cls, answer: Answer) -> "Waiting":
        return cls(
            answer.event_id,
            answer.text,
            answer.label,
            answer.arm,
            answer.weights_version,
            answer.key,
            answer.time_ms,
            answer.source,
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

    def is_of(self, answer: Answer) -> bool:
        """Whether `answer` is another one to this event: to the same text, since clients give ids twice."""
        is_same = (self.event_id, self.text, self.subject) == (answer.event_id, answer.text, answer.key)
        return is_same and self.source in (None, answer.source)

    def again(self, answer: Answer) -> "Waiting":
        """This answer, with the receipt of a later one, and its source."""
        later_ms = (*self.later_ms, answer.time_ms)[-LATER_TIMES:]
        return msgspec.structs.replace(self, source=answer.source, later_ms=later_ms)


def is_held_back(key: EventKey, share: float) -> bool:
    """Whether the event belongs to the share that is never learnt: the same at every replay of the stream."""
    return mmh3.hash(text_of(key), HELD_BACK_SEED, signed=False) < share * 2.0**32
