"""Filters, which change the answers of a batch before they are sent. A filter exists only if its setting is on.

    outcomes of a batch --each Answer--> Audit          asks for the labels of a random sample of the events
                                     --> AnswerTraces   records a span for the answer to a traced event
                                     --> items

`build_filters` returns the filters that the settings turn on. If all are off, the engine runs nothing of this module.

The audit is a random sample of events, drawn by a keyed hash of their ids (`wire.draws`). So it depends neither on the
version nor on the arm, and no sender can influence it. Its labels are unbiased even if annotators otherwise label only
answers that look wrong.

The answer to a traced event continues the event's trace, and so does its label. The answer's span lasts from the
event's arrival in the queue to the answer, and is an exemplar of the latency histogram. Answers to other events keep
the headers of their events unchanged.
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
from wire.traces import ANSWER, ARM, PRECISION, QUEUE_MS, TRACEPARENT, VERSION_NUMBER, find_traceparent


class AnswerFilter(Protocol):
    """Changes answers, in the engine's thread. It must not wait."""

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        """Returns the answer to send.

        `queued_s` is the time in seconds from the event's arrival in the queue to the start of its batch, `took_s` the
        time from its arrival to the end of its batch.
        """


def build_filters(audit_share: float, receipts: Receipts) -> list[AnswerFilter]:
    """Returns the filters that are on: the audit if `audit_share` is above 0, traces if this process exports them."""
    filters: list[AnswerFilter] = []
    if audit_share:
        filters.append(Audit(audit_share, receipts))
    if traces.is_on():
        filters.append(AnswerTraces())
    return filters


def apply_filters(
    filters: Sequence[AnswerFilter], batch: Batch[Item], outcomes: Sequence[Outcome], *, began_s: float, ended_s: float
) -> list[Outcome]:
    """Returns the outcomes of a batch in order, each answer changed by all `filters`.

    The batch was computed between `began_s` and `ended_s`, by the queue's clock.
    """
    changed: list[Outcome] = []
    for outcome, arrived_s in zip(outcomes, batch.arrived_s, strict=True):
        if isinstance(outcome, Answer):
            for answer_filter in filters:
                outcome = answer_filter.apply(outcome, queued_s=began_s - arrived_s, took_s=ended_s - arrived_s)
        changed.append(outcome)
    return changed


class Audit:
    """Marks a fixed share of the answers as asking for a label (`Answer.audit`)."""

    def __init__(self, share: float, receipts: Receipts) -> None:
        self._share = share
        self._receipts = receipts

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        if not is_drawn(self._receipts.draws, AUDIT, answer.event_id, self._share):
            return answer
        return msgspec.structs.replace(answer, audit=True)


class AnswerTraces:
    """Records a span for the answer to a traced event, and puts its traceparent into the answer's headers."""

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        now_ms = 1e3 * time.time()
        traceparent = traces.record(
            ANSWER,
            find_traceparent(answer.headers),
            start_ms=now_ms - 1e3 * took_s,
            end_ms=now_ms,
            attributes={
                VERSION_NUMBER: answer.weights_version,
                ARM: answer.arm,
                PRECISION: answer.precision,
                QUEUE_MS: round(1e3 * queued_s, 3),
            },
        )
        if not traceparent:
            return answer
        metrics.note_latency(took_s, traceparent)
        others = tuple(header for header in answer.headers if header[0] != TRACEPARENT)
        return msgspec.structs.replace(answer, headers=(*others, (TRACEPARENT, traceparent)))
