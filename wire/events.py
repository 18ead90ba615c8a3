"""Finds the event and the answer that a label is about. An event is identified by its source and its id. Pure.

    Event, Answer --key_of--> (source, id) --encoded_key--> the bytes under which the event is hashed and stored
    Answer   --list_aliases--> the byte strings by which labels may name its event: by key, by id, by receipt
    Feedback --matching--> the waiting answers that it may label: none, one, or several (AMBIGUOUS)
             --with_key--> the label with the key of its waiting answer, if its receipt proves that key
             --lookup_alias--> the alias by which its event is looked up after the answer no longer waits
             --corrected_alias--> the alias of the event whose label it may replace

A label names its event by the id. Its sender may also know the event's source, the receipt of the answer, or both. If
the label names a source, it must be the answer's source. If it has a receipt, the receipt must have the time and the
entity of the answer; `wire.receipts` has already verified the code in the receipt. An event that was answered twice has
two receipts, and both are valid.

The learner and the rollout both use these functions, so that both join each label with the same answer.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec

from wire.inputs import encode_content
from wire.receipts import FORGED, receipt_time_ms
from wire.records import Answer, Event, Feedback

EventKey: TypeAlias = tuple[str, str]
"""The source and the id of an event."""

AMBIGUOUS: Final = "ambiguous"
"""The reason to quarantine a label that matches several answers."""

MAX_LATER_TIMES: Final = 7
"""How many receipts of later answers to the same event are valid, in addition to the receipt of the first answer."""

_NEVER_IN_UTF8: Final = b"\xff"
"""A separator: this byte never occurs in UTF-8."""


class JoinableAnswer(Protocol):
    """An answer that waits for its label.

    - `times_ms`: the times of the answer and of all later answers to the same event, which are in their receipts.
    """

    @property
    def source(self) -> str: ...
    @property
    def event_id(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def times_ms(self) -> tuple[int, ...]: ...


A = TypeVar("A", bound=JoinableAnswer)


def key_of(record: Event | Answer) -> EventKey:
    """Returns the source and the id of the record's event. An id is unique only within its source."""
    event_id = record.id if isinstance(record, Event) else record.event_id
    return record.source, event_id


def content(record: Event | Answer | Feedback) -> str:
    """Returns the content of the event as one string (`wire.inputs`)."""
    return encode_content(record.text, record.features, record.parts)


def encoded_key(key: EventKey) -> bytes:
    """Encodes a key as bytes, injectively. The key of an event without a source is encoded as its id.

    >>> encoded_key(("", "e-17")), encoded_key(("shop", "e-17"))
    (b'e-17', b'shop\\xffe-17')
    """
    source, event_id = key
    return event_id.encode() if not source else source.encode() + _NEVER_IN_UTF8 + event_id.encode()


def with_later_time(times_ms: tuple[int, ...], time_ms: int) -> tuple[int, ...]:
    """Adds the time of one more answer to the times of the answers to an event.

    The first time and the last MAX_LATER_TIMES times are kept.

    >>> with_later_time((1, 2, 3, 4, 5, 6, 7, 8), 9)
    (1, 3, 4, 5, 6, 7, 8, 9)
    """
    first, *later = (*times_ms, time_ms)
    return (first, *later[-MAX_LATER_TIMES:])


def matching(feedback: Feedback, answers: Iterable[A]) -> list[A]:
    """Returns the `answers` that `feedback` may label.

    The caller must already have refused forged receipts. The receipt of an approved label is ignored.
    """
    receipt_ms = _receipt_ms(feedback)
    return [answer for answer in answers if _matches(feedback, receipt_ms, answer)]


def list_aliases(answer: JoinableAnswer) -> Iterator[bytes]:
    """Yields the aliases by which an event is found after its answer no longer waits: its key, its id, its receipts."""
    yield encoded_key((answer.source, answer.event_id))
    yield _id_alias(answer.event_id)
    for time_ms in answer.times_ms:
        yield _receipt_alias(answer.event_id, time_ms, answer.entity)


def lookup_alias(feedback: Feedback) -> bytes:
    """Returns the alias by which the label's event is looked up: by the key if the label names the source, else by the
    receipt, else by the id."""
    if feedback.event_source is not None:
        return encoded_key((feedback.event_source, feedback.event_id))
    receipt_ms = _receipt_ms(feedback)
    if receipt_ms is not None:
        return _receipt_alias(feedback.event_id, receipt_ms, feedback.answered_entity)
    return _id_alias(feedback.event_id)


def corrected_alias(feedback: Feedback) -> bytes | None:
    """Returns the alias of the event whose label this label may replace; None if it may not replace any.

    Approved labels and labels of mapped topics may replace a label. An approved label must name the source of its
    event. If a label of a mapped topic names no source, its event is taken to have none, like an event in plain JSON.
    """
    if feedback.event_source is not None and (feedback.approval or feedback.replaces):
        return encoded_key((feedback.event_source, feedback.event_id))
    return encoded_key(("", feedback.event_id)) if feedback.replaces and not feedback.approval else None


def with_key(feedback: Feedback, waiting: Iterable[JoinableAnswer], refusal: Callable[[Feedback], str]) -> Feedback:
    """Adds the missing key to a label that has a receipt, if the receipt's answer is among the `waiting` ones.

    `refusal` returns the reason to refuse a label. The code of a receipt covers the entity, so `refusal` returns FORGED
    for any wrong key.
    """
    if feedback.key or not has_receipt(feedback) or refusal(feedback) != FORGED:
        return feedback
    for answer in waiting:
        keyed = msgspec.structs.replace(feedback, key=answer.entity)
        if _matches(keyed, _receipt_ms(keyed), answer) and refusal(keyed) != FORGED:
            return keyed
    return feedback


def has_receipt(feedback: Feedback) -> bool:
    """Whether the label names one answer by a receipt, and not only the event."""
    return _receipt_ms(feedback) is not None


def _matches(feedback: Feedback, receipt_ms: int | None, answer: JoinableAnswer) -> bool:
    if answer.event_id != feedback.event_id:
        return False
    if feedback.event_source is not None and answer.source != feedback.event_source:
        return False
    if receipt_ms is None:
        return True
    return receipt_ms in answer.times_ms and answer.entity == feedback.answered_entity


def _receipt_ms(feedback: Feedback) -> int | None:
    return receipt_time_ms(feedback.receipt) if feedback.receipt and not feedback.approval else None


def _id_alias(event_id: str) -> bytes:
    return _NEVER_IN_UTF8 + event_id.encode()


def _receipt_alias(event_id: str, time_ms: int, entity: str) -> bytes:
    return _NEVER_IN_UTF8.join((b"", f"{time_ms}".encode(), event_id.encode(), entity.encode()))
