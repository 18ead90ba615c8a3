"""The spans of answers: an answer of a traced event carries on that trace, and so does its label.

    batch and its outcomes --traced--> the same, where the answers of traced events have a traceparent of their own
                                '--> span from the queue to the answer; exemplar of the latency histogram

Where no traces are exported the answer has the headers of its event, unchanged.

Rejected: a span for each step of the model's thread (a batch computes them for all its events at once).
"""

import time

import msgspec

from serving.queue import Batch, Item, Outcome
from wire import metrics, traces
from wire.records import Answer
from wire.traces import ANSWER, ARM, PRECISION, QUEUE_MS, TRACEPARENT, VERSION_NUMBER, traceparent_of


def traced(batch: Batch[Item], outcomes: list[Outcome], *, began_s: float, ended_s: float) -> list[Outcome]:
    """Returns the outcomes of a batch that was computed between these times, by the queue's clock; makes spans."""
    if not traces.is_on():
        return outcomes
    now_ms = 1e3 * time.time()
    return [
        _traced(outcome, now_ms=now_ms, queued_s=began_s - arrived_s, took_s=ended_s - arrived_s)
        if isinstance(outcome, Answer)
        else outcome
        for outcome, arrived_s in zip(outcomes, batch.arrived_s, strict=True)
    ]


def _traced(answer: Answer, *, now_ms: float, queued_s: float, took_s: float) -> Answer:
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
