"""What is done to the answers of a batch before they leave: filters, each of which is there only if its setting is on.

    outcomes of a batch --each Answer--> Audit          asks for the labels of a fixed share of the events
                                     --> AnswerTraces   makes the answer of a traced event a span of its own
                                     --> items

`filters_of` lists those of the settings, so a replica that uses none of them runs nothing of this module.

The events of the audit depend on their ids alone, under a secret (`wire.draws`), so neither version nor arm matters,
and no sender can choose. Who labels only what looks wrong says little of what is right.

An answer of a traced event carries on that trace, and so does its label. Its span lasts from the queue to the answer,
and is an exemplar of the latency histogram. Other answers have the headers of their events, unchanged.
"""

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from serving.queue import Batch, Item, Outcome
from wire import metrics, traces
from wire.draws import AUDIT, is_drawn
from wire.receipts import Receipts
from wire.records import Answer
from wire.traces import ANSWER, ARM, PRECISION, QUEUE_MS, TRACEPARENT, VERSION_NUMBER, traceparent_of


class AnswerFilter(Protocol):
    """Changes answers, in the engine's thread. It must not wait."""

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        """Returns the answer as it leaves. The event waited `queued_s` for its batch, and `took_s` for its answer."""


def filters_of(audit_share: float, receipts: Receipts) -> list[AnswerFilter]:
    """Returns the filters that are on: the audit by its setting, traces if this process exports them."""
    found: list[AnswerFilter] = []
    if audit_share:
        found.append(Audit(audit_share, receipts))
    if traces.is_on():
        found.append(AnswerTraces())
    return found


def filtered(
    filters: Sequence[AnswerFilter], batch: Batch[Item], outcomes: Sequence[Outcome], *, began_s: float, ended_s: float
) -> list[Outcome]:
    """Returns the outcomes of a batch that was computed between these times, with each answer as it leaves."""
    found: list[Outcome] = []
    for outcome, arrived_s in zip(outcomes, batch.arrived_s, strict=True):
        if isinstance(outcome, Answer):
            for each in filters:
                outcome = each.apply(outcome, queued_s=began_s - arrived_s, took_s=ended_s - arrived_s)
        found.append(outcome)
    return found


class Audit:
    """Lets a fixed share of the answers ask for a label (`Answer.audit`)."""

    def __init__(self, share: float, receipts: Receipts) -> None:
        self._share = share
        self._receipts = receipts

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        if not is_drawn(self._receipts.draws, AUDIT, answer.event_id, self._share):
            return answer
        return msgspec.structs.replace(answer, audit=True)


class AnswerTraces:
    """Makes the span of an answer, and puts its traceparent into the answer's headers."""

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        now_ms = 1e3 * time.time()
        made = traces.record(
            ANSWER,
            traceparent_of(answer.headers),
            start_ms=now_ms - 1e3 * took_s,
            end_ms=now_ms,
            attributes={
                VERSION_NUMBER: answer.weights_version,
                ARM: answer.arm,
                PRECISION: answer.precision,
                QUEUE_MS: round(1e3 * queued_s, 3),
            },
        )
        if not made:
            return answer
        metrics.note_latency(took_s, made)
        others = tuple(header for header in answer.headers if header[0] != TRACEPARENT)
        return msgspec.structs.replace(answer, headers=(*others, (TRACEPARENT, made)))
