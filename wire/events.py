"""Which event a label is about: an event is (source, id), and a label may say less. Pure: no clock, no network.

    Event, Answer --key_of--> (source, id) --text_of--> the bytes under which it is hashed and remembered
    Feedback --fitting--> the waiting answers that it may be the label of: none, its own, or several (AMBIGUOUS)
             --sought_as--> the one name under which an event that no longer waits is remembered, see `names_of`

A label names its event by id, and by what else its sender knows: the event's source, the receipt of the answer, or
both. The source has to be the answer's, and the receipt has to be that of this very answer: its time and its entity,
which `wire.receipts` has found to be signed. An event that was answered twice has two receipts, and either is good.

The learner's join and the judge of the rollout both ask here, so that both believe the same pairs.

Rejected: ids that are unique over all sources (two producers that both count 1, 2, 3 know nothing of each other), and
the source inside the receipt (a label that does not name it could then not be checked before its answer is there).
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeAlias, TypeVar

from wire.receipts import time_of
from wire.records import Answer, Event, Feedback

EventKey: TypeAlias = tuple[str, str]
"""Source and id."""

AMBIGUOUS: Final = "ambiguous"
"""Why a label is quarantined that several answers fit."""

_NEVER_IN_UTF8: Final = b"\xff"


class GivenAnswer(Protocol):
    """What is kept of an answer until its label comes. `source` is None where it was not kept: any may be meant.

    `times_ms` are those of the answer and of each later answer to the same event: the times of its receipts.
    """

    @property
    def source(self) -> str | None: ...
    @property
    def event_id(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def times_ms(self) -> tuple[int, ...]: ...


G = TypeVar("G", bound=GivenAnswer)


def key_of(record: Event | Answer) -> EventKey:
    """Who the record's event is: an id is unique within its source."""
    return record.source, record.id if isinstance(record, Event) else record.event_id


def text_of(key: EventKey) -> bytes:
    """Other bytes for every key; those of an event without a source are its id.

    >>> text_of(("", "e-17")), text_of(("shop", "e-17"))
    (b'e-17', b'shop\\xffe-17')
    """
    source, event_id = key
    return event_id.encode() if not source else source.encode() + _NEVER_IN_UTF8 + event_id.encode()


def fitting(feedback: Feedback, given: Iterable[G]) -> list[G]:
    """Those of the answers `given` that `feedback` may be the label of.

    A receipt is believed here, so refuse forged ones before. One beside an approval says nothing: the operator does.
    """
    receipt_ms = _receipt_ms(feedback)
    return [
        it
        for it in given
        if it.event_id == feedback.event_id
        and (feedback.event_source is None or it.source is None or it.source == feedback.event_source)
        and (receipt_ms is None or (receipt_ms in it.times_ms and it.entity == feedback.answered_entity))
    ]


def names_of(given: GivenAnswer) -> Iterator[bytes]:
    """The names under which an event is remembered when its answer waits no longer: by key, by id, by each receipt."""
    yield text_of((given.source if given.source is not None else "", given.event_id))
    yield _id_name(given.event_id)
    for time_ms in given.times_ms:
        yield _receipt_name(given.event_id, time_ms, given.entity)


def sought_as(feedback: Feedback) -> bytes:
    """The name under which the label's event is remembered, by the most that the label says of it."""
    if feedback.event_source is not None:
        return text_of((feedback.event_source, feedback.event_id))
    receipt_ms = _receipt_ms(feedback)
    if receipt_ms is not None:
        return _receipt_name(feedback.event_id, receipt_ms, feedback.answered_entity)
    return _id_name(feedback.event_id)


def has_receipt(feedback: Feedback) -> bool:
    """Whether the label says of which answer it is, and not only of which event."""
    return _receipt_ms(feedback) is not None


def _receipt_ms(feedback: Feedback) -> int | None:
    return time_of(feedback.receipt) if feedback.receipt and not feedback.approval else None


def _id_name(event_id: str) -> bytes:
    return _NEVER_IN_UTF8 + event_id.encode()


def _receipt_name(event_id: str, time_ms: int, entity: str) -> bytes:
    """A time has no byte 0xff, so that an id and an entity are told apart by it."""
    return _NEVER_IN_UTF8.join((b"", f"{time_ms}".encode(), event_id.encode(), entity.encode()))
