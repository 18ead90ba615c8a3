"""The conversion of events to items of the queue."""

from serving.batcher import BatchQueue
from serving.config import PrecisionConfig
from serving.counts import Counts
from serving.engine import Engine
from serving.item import Item
from serving.kafka.outbox import Outbox
from serving.kafka.sending import OutboxBounds
from serving.pipeline import Pipeline, encoding
from tests.serving.versions import RECEIPTS, tokenizer
from wire.bus import Publisher
from wire.errors import BusUnavailable
from wire.records import MAX_TEXT_CHARS, Event


def no_broker() -> Publisher:
    raise BusUnavailable("no broker in this test")


def pipeline_of(counts: Counts) -> Pipeline:
    queue: BatchQueue[Item] = BatchQueue(
        max_items=9, max_bytes=1 << 20, max_batch_items=9, max_batch_tokens=99, max_wait_ms=0
    )
    precision = PrecisionConfig()
    return Pipeline(
        encode=encoding(tokenizer(), max_tokens=lambda: 16),
        queue=queue,
        engine=Engine(queue, counts, top_scores=1, precision=precision, receipts=RECEIPTS, now_ms=lambda: 0),
        outbox=Outbox(no_broker, counts, OutboxBounds(max_items=9, max_bytes=9, first_pause_s=1), name="r1"),
        counts=counts,
    )


def test_nothing_longer_waits_than_an_answer_carries_back() -> None:
    """B12: texts of 1 MiB waited in full, and were truncated only for their tokens."""
    events = [Event(id="long", text="word " * 200_000), Event(id="short", text="hello")]
    long, short = pipeline_of(Counts()).items(events, [lambda _: None] * 2)
    assert long.event.text == events[0].text[:MAX_TEXT_CHARS]
    assert short.event is events[1]
    assert [item.num_tokens for item in (long, short)] == [16, 3]
    assert long.num_bytes < 2 * MAX_TEXT_CHARS
