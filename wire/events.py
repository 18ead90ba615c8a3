"""Which event a label is about. An event is identified by (source, id); a label may name only part of that. Pure.

    Event, Answer --key_of--> (source, id) --encoded_key--> the bytes under which it is hashed and remembered
    Feedback --matching--> the waiting answers that it may be the label of: none, its own, or several (AMBIGUOUS)
             --with_key--> the label with the key of its waiting answer, where its receipt proves that
             --lookup_alias--> the alias under which an event that no longer waits is found, one of `aliases_of`
             --corrected_alias--> the same for the event whose label it may replace

A label names its event by id, and by what else its sender knows: the event's source, the receipt of the answer, or
both. The source must be that of the answer. The receipt must have the time and the entity of this answer, and
`wire.receipts` has verified its code before. An event that was answered twice has two receipts, and both are valid.

The learner's join and the judge of the rollout both use these functions, so that both believe the same pairs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec

from wire.inputs import content_of
from wire.receipts import FORGED, time_of
from wire.records import Answer, Event, Feedback

EventKey: TypeAlias = tuple[str, str]
"""Source and id."""

AMBIGUOUS: Final = "ambiguous"
"""The reason for the quarantine of a label that matches several answers."""

MAX_LATER_TIMES: Final = 7
"""Number of later answers to one event whose receipts are valid besides that of the first answer."""

_NEVER_IN_UTF8: Final = b"\xff"


class GivenAnswer(Protocol):
    """What is remembered of an answer until its label comes. A `source` of None is unknown and matches every source.

    `times_ms` holds the times of the answer and of each later answer to the same event: the times of its receipts.
    """

    @property
    def source(self) -> str | None: ...
    @property
    def event_id(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def times_ms(self) -> tuple[int, ...]: ...


A = TypeVar("A", bound=GivenAnswer)


def key_of(record: Event | Answer) -> EventKey:
    """Returns source and id of the record's event: an id is unique within its source."""
    return record.source, record.id if isinstance(record, Event) else record.event_id


def content(record: Event | Answer | Feedback) -> str:
    """Returns what the event says, as one string: its text, if it says nothing else."""
    return content_of(record.text, record.features, record.parts)


def encoded_key(key: EventKey) -> bytes:
    """Encodes the key injectively; an event without a source is encoded as its id.

    >>> encoded_key(("", "e-17")), encoded_key(("shop", "e-17"))
    (b'e-17', b'shop\\xffe-17')
    """
    source, event_id = key
    return event_id.encode() if not source else source.encode() + _NEVER_IN_UTF8 + event_id.encode()


def with_later_time(times_ms: tuple[int, ...], time_ms: int) -> tuple[int, ...]:
    """Returns the times of an answer and of those after it to the same event, with one more.

    The first is kept, and the last MAX_LATER_TIMES others.

    >>> with_later_time((1, 2, 3, 4, 5, 6, 7, 8), 9)
    (1, 3, 4, 5, 6, 7, 8, 9)
    """
    first, *later = (*times_ms, time_ms)
    return (first, *later[-MAX_LATER_TIMES:])


def matching(feedback: Feedback, answers: Iterable[A]) -> list[A]:
    """Returns those of `answers` that `feedback` may be the label of.

    Forged receipts must have been refused before. The receipt of an approved label is ignored.
    """
    receipt_ms = _receipt_ms(feedback)
    return [answer for answer in answers if _matches(feedback, receipt_ms, answer)]


def aliases_of(answer: GivenAnswer) -> Iterator[bytes]:
    """Yields the aliases of an event whose answer no longer waits: by key, by id, and by each receipt."""
    yield encoded_key((answer.source if answer.source is not None else "", answer.event_id))
    yield _id_alias(answer.event_id)
    for time_ms in answer.times_ms:
        yield _receipt_alias(answer.event_id, time_ms, answer.entity)


def lookup_alias(feedback: Feedback) -> bytes:
    """Returns the alias of the label's event that is the most specific one that the label determines."""
    if feedback.event_source is not None:
        return encoded_key((feedback.event_source, feedback.event_id))
    receipt_ms = _receipt_ms(feedback)
    if receipt_ms is not None:
        return _receipt_alias(feedback.event_id, receipt_ms, feedback.answered_entity)
    return _id_alias(feedback.event_id)


def corrected_alias(feedback: Feedback) -> bytes | None:
    """Returns the alias of the event whose label this one replaces; None where it may replace none, or names none.

    An approved label names the source of its event. One of a mapped topic that does not is about an event without a
    source, as those of plain JSON are.
    """
    if feedback.event_source is not None and (feedback.approval or feedback.replaces):
        return encoded_key((feedback.event_source, feedback.event_id))
    return encoded_key(("", feedback.event_id)) if feedback.replaces and not feedback.approval else None


def with_key(feedback: Feedback, waiting: Iterable[GivenAnswer], refusal: Callable[[Feedback], str]) -> Feedback:
    """Returns a label without a key with the key of the answer that its receipt is of, where that is `waiting`.

    A receipt is of one entity, so `refusal` proves the key: it says FORGED of any other.
    """
    if feedback.key or not has_receipt(feedback) or refusal(feedback) != FORGED:
        return feedback
    for answer in waiting:
        keyed = msgspec.structs.replace(feedback, key=answer.entity)
        if _matches(keyed, _receipt_ms(keyed), answer) and refusal(keyed) != FORGED:
            return keyed
    return feedback


def has_receipt(feedback: Feedback) -> bool:
    """Whether the label names one answer, and not only an event."""
    return _receipt_ms(feedback) is not None


def _matches(feedback: Feedback, receipt_ms: int | None, answer: GivenAnswer) -> bool:
    if answer.event_id != feedback.event_id:
        return False
    if None not in (feedback.event_source, answer.source) and answer.source != feedback.event_source:
        return False
    if receipt_ms is None:
        return True
    return receipt_ms in answer.times_ms and answer.entity == feedback.answered_entity


def _receipt_ms(feedback: Feedback) -> int | None:
    return time_of(feedback.receipt) if feedback.receipt and not feedback.approval else None


def _id_alias(event_id: str) -> bytes:
    return _NEVER_IN_UTF8 + event_id.encode()


def _receipt_alias(event_id: str, time_ms: int, entity: str) -> bytes:
    """Joins the parts by the byte 0xff, which occurs in none of them, since they are UTF-8."""
    return _NEVER_IN_UTF8.join((b"", f"{time_ms}".encode(), event_id.encode(), entity.encode()))
