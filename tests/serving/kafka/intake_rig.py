"""An intake between a real broker and a real engine, and what the tests send to it and read behind it."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from serving.kafka.dedupe import DedupeWindow
from serving.kafka.intake import Intake, delivery_factory
from serving.pipeline import make_encode
from tests.brokers import take
from tests.serving.pipelines import PREDICT, make_pipeline
from tests.serving.versions import tokenizer
from wire.backoff import Backoff
from wire.bus import Bus, Publisher, Subscription
from wire.records import Event, TopicRecord


class IntakeRig:
    """All parts between a subscription and a publisher, with real weights. A test may replace what is public."""

    def __init__(
        self, bus: Bus, *, max_queue_items: int = 1_000, max_open: int = 1_000, exactly_once: bool = False
    ) -> None:
        self.bus = bus
        self.encode = make_encode(tokenizer(), lambda: 64)
        self.predict = PREDICT
        self.open_publisher: Callable[[], Publisher] = bus.publisher
        self.open_subscription: Callable[[], Subscription[Event]] = lambda: bus.subscribe(
            Event, "serving", commits_itself=not exactly_once
        )
        self.pipeline = make_pipeline(
            lambda texts: self.encode(texts),
            predict=lambda *batch: self.predict(*batch),
            max_queue_items=max_queue_items,
            max_answers=1_000,
            open_publisher=lambda: self.open_publisher(),
        )
        self.window = DedupeWindow(1_000)
        self.subscriptions: list[Subscription[Event]] = []
        self.intake = Intake(
            self.subscribe,
            delivery_factory(
                self.pipeline.outbox, self.window, transactions=bus.transactions if exactly_once else None
            ),
            self.pipeline,
            self.window,
            max_open=max_open,
            backoff=Backoff(first_s=0.1, longest_s=2.0),
            drain_timeout_s=5.0,
        )

    def subscribe(self) -> Subscription[Event]:
        self.subscriptions.append(self.open_subscription())
        return self.subscriptions[-1]

    def start(self) -> None:
        self.pipeline.engine.start()
        self.pipeline.outbox.start()
        self.intake.start()

    def close(self) -> None:
        self.intake.close()
        self.pipeline.queue.close()
        self.pipeline.outbox.close(5.0)


def send(bus: Bus, *records: TopicRecord) -> None:
    publisher = bus.publisher()
    for record in records:
        publisher.send(record)
    publisher.flush(10)


def received(bus: Bus, record_type: type[TopicRecord], num: int) -> list[Any]:
    with closing(bus.follow([record_type], {})) as follower:
        return [each.record for each in take(follower.poll, num)]


def committed(bus: Bus) -> int:
    """Returns how many events the group would get again."""
    with closing(bus.subscribe(Event, "serving")) as again:
        polls = [again.poll(200) for _ in range(10)]
    return sum(len(poll.received) + len(poll.refused) for poll in polls)
