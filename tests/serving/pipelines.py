"""The inside of a replica, between its ways in and out: a queue, an engine and an outbox with tight bounds."""

import time
from collections.abc import Callable
from functools import partial

from lifelong.plugins.inputs.series import Series
from serving.config import PrecisionConfig, SeriesConfig
from serving.engine import Engine
from serving.kafka.outbox import Outbox, OutboxBounds
from serving.observers import Counts
from serving.pipeline import NOTHING_NOTED, Pipeline
from serving.predict import Predict, predict_many
from serving.queue import BatchQueue, Encode, Item
from tests.serving.versions import RECEIPTS
from wire.backoff import Backoff
from wire.bus import Publisher
from wire.errors import BusUnavailable

NO_SERIES = SeriesConfig()
PREDICT: Predict = partial(predict_many, top_scores=2, receipts=RECEIPTS, now_ms=lambda: 9)


def no_broker() -> Publisher:
    raise BusUnavailable("no broker in this test")


def make_queue(max_items: int, counts: Counts | None = None) -> BatchQueue[Item]:
    return BatchQueue(
        max_items=max_items,
        max_bytes=1 << 30,
        max_batch_items=16,
        max_batch_tokens=512,
        max_wait_ms=0,
        on_abandoned=partial((counts or Counts()).add, "abandoned"),
    )


def make_engine(
    queue: BatchQueue[Item],
    counts: Counts,
    predict: Predict = PREDICT,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """Returns an engine that has no weights yet and was not started."""
    return Engine(queue, counts, predict, precision=PrecisionConfig(), deaths=NOTHING_NOTED, clock=clock)


def make_pipeline(
    encode: Encode,
    *,
    predict: Predict = PREDICT,
    max_queue_items: int = 64,
    max_answers: int = 8,
    open_publisher: Callable[[], Publisher] = no_broker,
    series: SeriesConfig = NO_SERIES,
) -> Pipeline:
    """Returns a pipeline whose engine and outbox were not started: `max_answers` of them fit into the outbox."""
    counts = Counts()
    queue = make_queue(max_queue_items, counts)
    engine = make_engine(queue, counts, predict)
    bounds = OutboxBounds(max_items=max_answers, max_bytes=64 << 20, backoff=Backoff(first_s=0.05, longest_s=2.0))
    return Pipeline(
        encode=encode,
        max_tokens=lambda: 64,
        queue=queue,
        engine=engine,
        outbox=Outbox(open_publisher, counts, bounds, name="r1"),
        counts=counts,
        enrichers=[Series(series)] if series.is_used else [],
        deaths=NOTHING_NOTED,
        has_weights=lambda: engine.live is not None,
    )
