"""Events from a real broker to acknowledged answers, and what is refused on the way."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]

from serving.batcher import BatchQueue
from serving.config import PrecisionConfig
from serving.core import Core
from serving.counts import Counts
from serving.dedupe import DedupeWindow
from serving.engine import Engine, Item
from serving.intake import Intake
from serving.outbox import Outbox
from serving.tokens import encoding
from tests.brokers import take
from tests.serving.waiting import eventually
from tests.serving.weights import RECEIPTS, label_of, live_of, tokenizer
from wire.bus import Bus, Publisher
from wire.errors import SendFailed
from wire.records import MAX_EVENT_BYTES, Answer, DeadLetter, Event, TopicRecord

pytestmark = pytest.mark.live


class Pipeline:
    """Everything between a subscription and a publisher, with real weights. `encode` may be replaced by a test."""

    def __init__(self, bus: Bus, *, max_queue_items: int = 1_000, max_open: int = 1_000) -> None:
        self.bus = bus
        self.counts = Counts()
        self.queue: BatchQueue[Item] = BatchQueue(
            max_items=max_queue_items, max_batch_items=16, max_batch_tokens=512, max_wait_ms=0
        )
        self.engine = Engine(
            self.queue, self.counts, top_scores=2, precision=PrecisionConfig(), receipts=RECEIPTS, now_ms=lambda: 9
        )
        self.encode = encoding(tokenizer(), max_tokens=64)
        self.open_publisher: Callable[[], Publisher] = bus.publisher
        self.outbox = Outbox(lambda: self.open_publisher(), self.counts, max_items=1_000, reconnect_s=0.1)
        self.window = DedupeWindow(1_000)
        core = Core(
            encode=lambda texts: self.encode(texts),
            queue=self.queue,
            engine=self.engine,
            outbox=self.outbox,
            counts=self.counts,
        )
        self.intake = Intake(
            lambda: bus.subscribe(Event, "serving"),
            core,
            self.window,
            max_open=max_open,
            reconnect_s=0.1,
            drain_timeout_s=5.0,
        )

    def start(self) -> None:
        self.engine.start()
        self.outbox.start()
        self.intake.start()

    def close(self) -> None:
        self.intake.close()
        self.queue.close()
        self.outbox.close(5.0)


@pytest.fixture
def pipeline(bus: Bus) -> Iterator[Pipeline]:
    made = Pipeline(bus)
    made.engine.live = live_of([1])
    yield made
    made.close()


def send(bus: Bus, *records: TopicRecord) -> None:
    publisher = bus.publisher()
    for record in records:
        publisher.send(record)
    publisher.flush(10)


def received(bus: Bus, record_type: type[TopicRecord], num: int) -> list[Any]:
    with closing(bus.follow([record_type], {})) as follower:
        return [each.record for each in take(follower.poll, num)]


def committed(bus: Bus) -> int:
    """How many events the group would get again."""
    with closing(bus.subscribe(Event, "serving")) as again:
        polls = [again.poll(200) for _ in range(10)]
    return sum(len(poll.received) + len(poll.refused) for poll in polls)


def test_every_event_is_answered_and_committed(pipeline: Pipeline, bus: Bus) -> None:
    events = [Event(id=f"e{index}", text=f"text number {index}", key=f"k{index}") for index in range(40)]
    send(bus, *events)
    pipeline.start()
    answers = received(bus, Answer, 40)
    assert {answer.event_id: answer.label for answer in answers} == {
        event.id: label_of(1, event.text) for event in events
    }
    pipeline.close()
    assert committed(bus) == 0


def test_an_event_that_comes_twice_is_answered_once(pipeline: Pipeline, bus: Bus) -> None:
    twice = Event(id="twice", text="hello", key="k")
    send(bus, twice, twice, Event(id="other", text="hello", key="k"))
    pipeline.start()
    assert sorted(answer.event_id for answer in received(bus, Answer, 2)) == ["other", "twice"]
    send(bus, twice, Event(id="last", text="hello", key="k"))
    assert sorted(answer.event_id for answer in received(bus, Answer, 3)) == ["last", "other", "twice"]
    eventually(lambda: pipeline.counts.snapshot().get("duplicates") == 2)
    pipeline.close()
    assert committed(bus) == 0


BAD: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"\xff\xfe no json", "undecodable"),
    (b'{"text": 5}', "wrong_schema"),
    (b'{"txt": "hello"}', "wrong_schema"),
    (b'{"text": " "}', "wrong_schema"),
    (b"[]", "wrong_schema"),
    (b'{"text": "' + b"x" * MAX_EVENT_BYTES + b'"}', "oversized"),
]


def test_bad_lines_become_dead_letters_and_the_partition_moves_on(
    pipeline: Pipeline, bus: Bus, bus_config: Any
) -> None:
    topic = f"{bus_config.prefix}{Event.TOPIC}"
    options = {"bootstrap_servers": bus_config.bootstrap_servers, "max_request_size": 2 * MAX_EVENT_BYTES}
    with closing(KafkaProducer(**options)) as producer:
        for payload, _ in BAD:
            producer.send(topic, value=payload, partition=0)
        producer.send(topic, value=b'{"text": "a good one", "id": "good"}', partition=0)
        producer.flush()
    pipeline.start()
    (answer,) = received(bus, Answer, 1)
    letters = sorted(received(bus, DeadLetter, len(BAD)), key=lambda letter: letter.offset)
    assert answer.event_id == "good"
    assert [(letter.payload, letter.reason) for letter in letters] == BAD
    assert {(letter.topic, letter.partition) for letter in letters} == {(topic, 0)}
    assert [letter.offset for letter in letters] == list(range(len(BAD)))
    pipeline.close()
    assert committed(bus) == 0
    assert pipeline.counts.snapshot()["dead_letters"] == len(BAD)


def test_a_poison_event_becomes_a_dead_letter_and_its_neighbours_are_answered(pipeline: Pipeline, bus: Bus) -> None:
    good = pipeline.encode
    pipeline.encode = lambda texts: [[1 << 20] if text == "poison" else good([text])[0] for text in texts]
    poison = Event(id="p", text="poison", key="k")
    send(bus, Event(id="a", text="good", key="k"), poison, Event(id="b", text="good", key="k"))
    pipeline.start()
    assert {answer.event_id for answer in received(bus, Answer, 2)} == {"a", "b"}
    (letter,) = received(bus, DeadLetter, 1)
    assert letter.reason == "model_failed"
    assert letter.topic.endswith(Event.TOPIC)
    assert msgspec.json.decode(letter.payload, type=Event) == poison
    pipeline.close()
    assert committed(bus) == 0


def test_before_the_first_weights_events_wait_in_the_broker(pipeline: Pipeline, bus: Bus) -> None:
    pipeline.engine.live = None
    send(bus, Event(id="e", text="hello"))
    pipeline.start()
    eventually(lambda: pipeline.intake._is_paused)
    assert (len(pipeline.queue), pipeline.window.num_open) == (0, 0)
    pipeline.engine.live = live_of([1])
    assert received(bus, Answer, 1)[0].event_id == "e"


def test_a_full_queue_pauses_the_partitions_and_loses_nothing(bus: Bus) -> None:
    pipeline = Pipeline(bus, max_queue_items=8, max_open=16)
    pipeline.engine.live = live_of([1])
    events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(300)]
    send(bus, *events)
    pipeline.start()
    answers = received(bus, Answer, len(events))
    assert {answer.event_id for answer in answers} == {event.id for event in events}
    pipeline.close()
    assert committed(bus) == 0


def test_an_answer_that_could_not_be_sent_is_made_again(pipeline: Pipeline, bus: Bus) -> None:
    real = bus.publisher()

    class FailsOnce:
        """A publisher whose first acknowledgement is a failure, as after a delivery timeout."""

        num_sent = 0

        def send(self, record: TopicRecord, on_ack: Any) -> None:
            self.num_sent += 1
            if self.num_sent == 1:
                on_ack(SendFailed("not acknowledged in time"))
            else:
                real.send(record, on_ack)

        def close(self) -> None:
            real.close()

    failing: Any = FailsOnce()
    pipeline.open_publisher = lambda: failing
    send(bus, Event(id="e", text="hello"))
    pipeline.start()
    assert received(bus, Answer, 1)[0].event_id == "e"
    assert pipeline.counts.snapshot()["send_failed"] == 1
    assert pipeline.counts.snapshot()["answers"] == 2
    pipeline.close()
    assert committed(bus) == 0
