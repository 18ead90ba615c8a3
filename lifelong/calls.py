"""The calls of the clients as records: events become answers, and labels become accepted labels.

text | Event --> entry --exchange--> ServedAnswer, whose receipt is kept
Answer, label --> entry --exchange--> Feedback
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from lifelong.errors import ClientError, UnknownAnswer
from lifelong.exchange import Exchange, ExchangePolicy, exchange
from lifelong.replies import FEEDBACK, PREDICT, Result, not_understood
from wire.inputs import EMPTY_CONTENT, fields_of
from wire.kinds import LABEL_FIELDS
from wire.records import Answer, Event, Feedback

HTTP_SOURCE: Final = "http"
"""The source of every event that is sent by HTTP."""


class ServedAnswer(Answer, frozen=True, kw_only=True):
    """An answer over HTTP. `text`, `features` and `parts` are the event's, as the client sent them.

    If `can_be_labelled` is false, the service did not publish the answer. A label for such an answer is learnt only if
    the service accepts texts without a receipt.
    """

    can_be_labelled: bool = True


Label: TypeAlias = str | Collection[str] | float | Mapping[str, Any]
"""The label of an event: one class, a set of classes, a score, or an object with the name of its `kind`.

It must be of the kind that the service has as `labels.kind`.
"""

Labels: TypeAlias = Iterable[tuple[Answer | str, Label]]
"""Answers, or the ids of their events, each with its label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proof:
    """The fields of an answer that are sent back with its label."""

    key: str
    receipts: Mapping[str, str]
    """The receipts by task. The receipt of the answer's own task comes first."""
    event_source: str
    content: Mapping[str, Any] = field(default_factory=dict)
    """Text, features and parts of the event. They are empty if the answer was published: the service has them."""


class Calls:
    """The calls of one client, which keeps the receipts of the last `max_receipts` answers. Thread-safe."""

    def __init__(self, policy: ExchangePolicy, *, max_receipts: int) -> None:
        self.policy = policy
        self._max_receipts = max_receipts
        self._lock = threading.Lock()
        # By event id, the oldest first.
        self._proofs: OrderedDict[str, _Proof] = OrderedDict()

    def predict(self, events: Iterable[str | Event]) -> Exchange[list[ServedAnswer | ClientError]]:
        """Returns a list with an answer or an error for each event. Raises ClientError if all are errors."""
        sent = [_with_id(event) for event in events]
        entries = [_event_entry(event) for event in sent]
        results = yield from exchange(PREDICT, entries, self.policy)
        return [self._read_answer(result, event) for result, event in zip(results, sent, strict=True)]

    def feedback(
        self, labels: Labels, *, correct: bool, task: str | None = None
    ) -> Exchange[list[Feedback | ClientError]]:
        """Returns a list with the accepted label or an error for each label. Raises ClientError if all are errors.

        All labels are for `task` (None: each is for the task of its answer). Before anything is sent, UnknownAnswer is
        raised for an id whose receipt was not kept, and for a task that did not answer.
        """
        sent = [self._to_feedback(answer, label, task) for answer, label in labels]
        entries = [_label_entry(record, correct=correct) for record in sent]
        results = yield from exchange(FEEDBACK, entries, self.policy)
        return [_accepted(result, record) for result, record in zip(results, sent, strict=True)]

    def keep(self, answer: Answer) -> None:
        """Keeps the receipt of an answer, so that the answer can be labelled by the id of its event."""
        with self._lock:
            # An assignment alone would leave a known id at its old place.
            self._proofs.pop(answer.event_id, None)
            self._proofs[answer.event_id] = _to_proof(answer)
            if len(self._proofs) > self._max_receipts:
                self._proofs.popitem(last=False)

    def _read_answer(self, result: Result, event: Event) -> ServedAnswer | ClientError:
        if isinstance(result, ClientError):
            return result
        try:
            answer = msgspec.convert({**result, **fields_of(event)}, ServedAnswer)
        except msgspec.ValidationError as error:
            return not_understood(str(error))
        self.keep(answer)
        return answer

    def _to_feedback(self, answer: Answer | str, label: Label, task: str | None) -> Feedback:
        event_id = answer if isinstance(answer, str) else answer.event_id
        with self._lock:
            proof = self._proofs.get(answer) if isinstance(answer, str) else _to_proof(answer)
        if proof is None:
            kept = f"the last {self._max_receipts} answers of this client"
            raise UnknownAnswer(
                f"{event_id!r} is not among {kept}: pass the answer instead of its id", code="unknown_answer"
            )
        labelled_task = next(iter(proof.receipts)) if task is None else task
        if labelled_task not in proof.receipts:
            answered = ", ".join(map(repr, proof.receipts))
            raise UnknownAnswer(f"task {task!r} did not answer {event_id!r}: {answered} did", code="unknown_answer")
        return Feedback(
            event_id=event_id,
            **_label_field(label),
            key=proof.key,
            receipt=proof.receipts[labelled_task],
            task=labelled_task,
            event_source=proof.event_source,
            **proof.content,
        )


def _label_field(label: Label) -> dict[str, Any]:
    """Returns the field of `Feedback` that holds a label of this type, as {name: value}."""
    match label:
        case str():
            return {"label": label}
        case float() | int():
            return {"value": float(label)}
        case Mapping():
            return {"target": dict(label)}
        case _:
            return {"labels": tuple(label)}


def _with_id(event: str | Event) -> Event:
    """Returns the event with an id, so that a retry sends the same event. Raises ValueError for a wrong source."""
    if isinstance(event, str):
        return Event(id=uuid.uuid4().hex, text=event)
    if event.source not in ("", HTTP_SOURCE):
        raise ValueError(f"an event over HTTP has the source {HTTP_SOURCE!r}, not {event.source!r}: send it by Kafka")
    return event if event.id else msgspec.structs.replace(event, id=uuid.uuid4().hex)


def _to_proof(answer: Answer) -> _Proof:
    is_published = not isinstance(answer, ServedAnswer) or answer.can_be_labelled
    return _Proof(
        key=answer.key,
        receipts={answer.task: answer.receipt} | {task: each.receipt for task, each in answer.tasks.items()},
        event_source=answer.source,
        content=EMPTY_CONTENT if is_published else fields_of(answer),
    )


def _event_entry(event: Event) -> bytes:
    entry: dict[str, Any] = {"id": event.id, "key": event.key, **_content_fields(event)}
    if event.tasks:
        entry["tasks"] = event.tasks
    return msgspec.json.encode(entry)


def _label_entry(record: Feedback, *, correct: bool) -> bytes:
    entry: dict[str, Any] = {
        "event_id": record.event_id,
        "label": record.label,
        "key": record.key,
        "receipt": record.receipt,
        "event_source": record.event_source,
        "correct": correct,
        **_content_fields(record),
    }
    entry |= {name: value for name in LABEL_FIELDS if (value := getattr(record, name)) is not None}
    if record.task:
        entry["task"] = record.task
    return msgspec.json.encode(entry)


def _content_fields(record: Event | Feedback) -> dict[str, Any]:
    """Returns the text, which the service requires, and the features and parts if there are any."""
    return {name: value for name, value in fields_of(record).items() if value or name == "text"}


def _accepted(result: Result, record: Feedback) -> Feedback | ClientError:
    """Returns the label with the source that the service has set."""
    if isinstance(result, ClientError):
        return result
    return msgspec.structs.replace(record, source=str(result.get("source", "")))
