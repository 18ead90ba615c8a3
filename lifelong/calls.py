"""What clients ask of the service, in records: events to answers, and labels to what the service took of them.

text | Event --> entry --exchange--> ServedAnswer, whose receipt is kept        Answer, label --> entry --> Feedback
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
from wire.inputs import NOTHING_SAID, fields_of
from wire.kinds import LABEL_FIELDS
from wire.records import Answer, Event, Feedback

HTTP_SOURCE: Final = "http"
"""The source of every event that comes by HTTP."""


class ServedAnswer(Answer, frozen=True, kw_only=True):
    """An answer as it comes by HTTP; `text`, `features` and `parts` are the event's, as the client sent them.

    An answer that is not `can_be_labelled` was kept nowhere: its label finds it only where texts are taken without a
    receipt.
    """

    can_be_labelled: bool = True


Label: TypeAlias = str | Collection[str] | float | Mapping[str, Any]
"""The label of an event, as the service has `labels.kind`: one class, a set of them, a score, or an object with the
name of its `kind`."""

Labels: TypeAlias = Iterable[tuple[Answer | str, Label]]
"""Answers, or the ids of their events, each with its label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proof:
    """What goes back with a label: that of the answer, by the names of the endpoint, and its receipts by task."""

    key: str
    receipts: Mapping[str, str]
    event_source: str
    said: Mapping[str, Any] = field(default_factory=dict)


class Calls:
    """The calls of one client. It keeps the receipts of the last `max_receipts` answers; any thread may use it."""

    def __init__(self, policy: ExchangePolicy, *, max_receipts: int) -> None:
        self.policy = policy
        self._max_receipts = max_receipts
        self._lock = threading.Lock()
        self._proofs: OrderedDict[str, _Proof] = OrderedDict()  # by event id, the oldest first

    def predict(self, events: Iterable[str | Event]) -> Exchange[list[ServedAnswer | ClientError]]:
        """Returns an answer for each event, or the error in its place. Raises ClientError where every one is one."""
        asked = [_event_of(event) for event in events]
        entries = [_asked_entry(event) for event in asked]
        results = yield from exchange(PREDICT, entries, self.policy)
        return [self._answer_of(result, event) for result, event in zip(results, asked, strict=True)]

    def feedback(
        self, labels: Labels, *, correct: bool, task: str | None = None
    ) -> Exchange[list[Feedback | ClientError]]:
        """Returns each label as the service took it, or the error in its place. `task` is the one that they are of
        (None: that of the answer).

        Raises ClientError where every one is one, and UnknownAnswer, before anything is sent, for an id whose receipt
        is not held, and for a task that did not answer.
        """
        sent = [self._feedback_of(answer, label, task) for answer, label in labels]
        entries = [_entry_of(record, correct=correct) for record in sent]
        results = yield from exchange(FEEDBACK, entries, self.policy)
        return [_taken(result, record) for result, record in zip(results, sent, strict=True)]

    def keep(self, answer: Answer) -> None:
        """Keeps the receipt of an answer, so that the id of its event is enough to label it."""
        with self._lock:
            self._proofs.pop(answer.event_id, None)
            self._proofs[answer.event_id] = _proof_of(answer)
            if len(self._proofs) > self._max_receipts:
                self._proofs.popitem(last=False)

    def _answer_of(self, result: Result, event: Event) -> ServedAnswer | ClientError:
        if isinstance(result, ClientError):
            return result
        try:
            answer = msgspec.convert({**result, **fields_of(event)}, ServedAnswer)
        except msgspec.ValidationError as error:
            return not_understood(str(error))
        self.keep(answer)
        return answer

    def _feedback_of(self, answer: Answer | str, label: Label, task: str | None) -> Feedback:
        event_id = answer if isinstance(answer, str) else answer.event_id
        with self._lock:
            proof = self._proofs.get(answer) if isinstance(answer, str) else _proof_of(answer)
        if proof is None:
            held = f"the last {self._max_receipts} answers of this client"
            raise UnknownAnswer(f"{event_id!r} is none of {held}: give the answer itself", code="unknown_answer")
        of_task = next(iter(proof.receipts)) if task is None else task
        if of_task not in proof.receipts:
            answered = ", ".join(map(repr, proof.receipts))
            raise UnknownAnswer(f"task {task!r} did not answer {event_id!r}: {answered} did", code="unknown_answer")
        return Feedback(
            event_id=event_id,
            **_said(label),
            key=proof.key,
            receipt=proof.receipts[of_task],
            task=of_task,
            event_source=proof.event_source,
            **proof.said,
        )


def _said(label: Label) -> dict[str, Any]:
    """Returns the field of the label, by its name."""
    match label:
        case str():
            return {"label": label}
        case float() | int():
            return {"value": float(label)}
        case Mapping():
            return {"target": dict(label)}
        case _:
            return {"labels": tuple(label)}


def _event_of(event: str | Event) -> Event:
    """Returns the event, with an id of its own where it has none: a repeated attempt is the same event."""
    if isinstance(event, str):
        return Event(id=uuid.uuid4().hex, text=event)
    if event.source not in ("", HTTP_SOURCE):
        raise ValueError(f"the source of an event over HTTP is {HTTP_SOURCE!r}, not {event.source!r}: send it by Kafka")
    return event if event.id else msgspec.structs.replace(event, id=uuid.uuid4().hex)


def _proof_of(answer: Answer) -> _Proof:
    is_kept = not isinstance(answer, ServedAnswer) or answer.can_be_labelled
    return _Proof(
        key=answer.key,
        receipts={answer.task: answer.receipt} | {task: each.receipt for task, each in answer.tasks.items()},
        event_source=answer.source,
        said=NOTHING_SAID if is_kept else fields_of(answer),
    )


def _asked_entry(event: Event) -> bytes:
    entry: dict[str, Any] = {"id": event.id, "key": event.key, **_what_is_said(event)}
    if event.tasks:
        entry["tasks"] = event.tasks
    return msgspec.json.encode(entry)


def _entry_of(record: Feedback, *, correct: bool) -> bytes:
    entry: dict[str, Any] = {
        "event_id": record.event_id,
        "label": record.label,
        "key": record.key,
        "receipt": record.receipt,
        "event_source": record.event_source,
        "correct": correct,
        **_what_is_said(record),
    }
    entry |= {name: value for name in LABEL_FIELDS if (value := getattr(record, name)) is not None}
    if record.task:
        entry["task"] = record.task
    return msgspec.json.encode(entry)


def _what_is_said(record: Event | Feedback) -> dict[str, Any]:
    """Returns the text, and the other fields that say anything."""
    return {name: value for name, value in fields_of(record).items() if value or name == "text"}


def _taken(result: Result, record: Feedback) -> Feedback | ClientError:
    if isinstance(result, ClientError):
        return result
    return msgspec.structs.replace(record, source=str(result.get("source", "")))
