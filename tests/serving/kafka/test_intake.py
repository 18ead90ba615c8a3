"""Events from a real broker to acknowledged answers, and the refusals on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from serving.kafka.dedupe import DedupeWindow
from serving.kafka.intake import Intake
from serving.pipeline import encoding
from serving.predict import predict_many
from tests.brokers import take
from tests.serving.pipelines import pipeline_of
from tests.serving.versions import label_of, live_of, tokenizer
from tests.waiting import eventually
from wire.bus import Bus, Publisher, Subscription
from wire.errors import SendFailed
from wire.records import MAX_EVENT_BYTES, Answer, DeadLetter, Event, TopicRecord

pytestmark = pytest.mark.live


class IntakeRig:
    """All parts between a subscription and a publisher, with real weights. A test may replace `encode`."""

    def __init__(self, bus: Bus, *, max_queue_items: int = 1_000, max_open: int = 1_000) -> None:
        self.bus = bus
        self.encode = encoding(tokenizer(), lambda: 64)
        self.open_publisher: Callable[[], Publisher] = bus.publisher
        self.pipeline = pipeline_of(
            lambda texts: self.encode(texts),
            max_queue_items=max_queue_items,
            max_answers=1_000,
            open_publisher=lambda: self.open_publisher(),
        )
        self.window = DedupeWindow(1_000)
        self.subscriptions: list[Subscription[Event]] = []
        self.intake = Intake(
            self.subscribe,
            self.pipeline,
            self.window,
            max_open=max_open,
            reconnect_s=0.1,
            drain_timeout_s=5.0,
        )

    def subscribe(self) -> Subscription[Event]:
        self.subscriptions.append(self.bus.subscribe(Event, "serving"))
        return self.subscriptions[-1]

    def start(self) -> None:
        self.pipeline.engine.start()
        self.pipeline.outbox.start()
        self.intake.start()

    def close(self) -> None:
        self.intake.close()
        self.pipeline.queue.close()
        self.pipeline.outbox.close(5.0)


@pytest.fixture
def rig(bus: Bus) -> Iterator[IntakeRig]:
    rig = IntakeRig(bus)
    rig.pipeline.engine.live = live_of([1])
    yield rig
    rig.close()


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


def test_every_event_is_answered_and_committed(rig: IntakeRig, bus: Bus) -> None:
    events = [Event(id=f"e{index}", text=f"text number {index}", key=f"k{index}") for index in range(40)]
    send(bus, *events)
    rig.start()
    answers = received(bus, Answer, 40)
    assert {answer.event_id: answer.label for answer in answers} == {
        event.id: label_of(1, event.text) for event in events
    }
    rig.close()
    assert committed(bus) == 0


def test_an_event_that_comes_twice_is_answered_once(rig: IntakeRig, bus: Bus) -> None:
    twice = Event(id="twice", text="hello", key="k")
    send(bus, twice, twice, Event(id="other", text="hello", key="k"))
    rig.start()
    assert sorted(answer.event_id for answer in received(bus, Answer, 2)) == ["other", "twice"]
    send(bus, twice, Event(id="last", text="hello", key="k"))
    assert sorted(answer.event_id for answer in received(bus, Answer, 3)) == ["last", "other", "twice"]
    eventually(lambda: rig.pipeline.counts.snapshot().get("duplicates") == 2)
    rig.close()
    assert committed(bus) == 0


def is_taken_beyond_time(topic: str, value: bytes, **options: Any) -> bool:
    """Sends `value` with a time beyond any calendar; returns whether the broker accepts it. Apache Kafka accepts no
    future time."""
    with closing(KafkaProducer(**options)) as producer:
        try:
            producer.send(topic, value=value, partition=0, timestamp_ms=2**62).get(10)
        except KafkaError:
            return False
    return True


BAD: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"\xff\xfe no json", "undecodable"),
    (b'{"text": 5}', "wrong_schema"),
    (b'{"txt": "hello"}', "wrong_schema"),
    (b'{"text": " "}', "wrong_schema"),
    (b"[]", "wrong_schema"),
    (b'{"text": "' + b"x" * MAX_EVENT_BYTES + b'"}', "oversized"),
]


def test_bad_lines_become_dead_letters_and_the_partition_moves_on(rig: IntakeRig, bus: Bus, bus_config: Any) -> None:
    topic = f"{bus_config.prefix}{Event.TOPIC}"
    options = {"bootstrap_servers": bus_config.bootstrap_servers, "max_request_size": 2 * MAX_EVENT_BYTES}
    with closing(KafkaProducer(**options)) as producer:
        for payload, _ in BAD:
            producer.send(topic, value=payload, partition=0)
        producer.send(topic, value=b'{"text": "a good one", "id": "good"}', partition=0)
        producer.flush()
    rig.start()
    (answer,) = received(bus, Answer, 1)
    letters = sorted(received(bus, DeadLetter, len(BAD)), key=lambda letter: letter.offset)
    assert answer.event_id == "good"
    assert [(letter.payload, letter.reason) for letter in letters] == BAD
    assert {(letter.topic, letter.partition) for letter in letters} == {(topic, 0)}
    assert [letter.offset for letter in letters] == list(range(len(BAD)))
    rig.close()
    assert committed(bus) == 0
    assert rig.pipeline.counts.snapshot()["dead_letters"] == len(BAD)


def test_whatever_a_producer_sends_no_thread_ends_and_the_partition_moves_on(
    rig: IntakeRig, bus: Bus, bus_config: Any
) -> None:
    """B2, B3: a time beyond the year 9999 ended the outbox of each replica in turn; an id of 3 MiB stopped a
    partition."""
    topic = f"{bus_config.prefix}{Event.TOPIC}"
    hello = b'{"text": "hello"}'
    long = b"\x01" * (3 << 20)
    options = {"bootstrap_servers": bus_config.bootstrap_servers, "max_request_size": 8 << 20}
    with closing(KafkaProducer(**options)) as producer:
        for header in ("ce_id", "ce_time", "ce_type", "ce_source"):
            producer.send(topic, value=hello, partition=0, headers=[(header, long)])
        producer.send(topic, value=b"no JSON", partition=0, key=b"\xff" * (3 << 20))
        producer.flush()
    is_taken = [is_taken_beyond_time(topic, value, **options) for value in (hello, b"no JSON")]
    with closing(KafkaProducer(**options)) as producer:
        producer.send(topic, value=b'{"text": "a good one", "id": "good"}', partition=0)
    rig.start()
    num_letters = 5 + is_taken[1]
    answers = received(bus, Answer, 1 + is_taken[0])
    letters = received(bus, DeadLetter, num_letters)
    assert "good" in {answer.event_id for answer in answers}
    assert {letter.reason for letter in letters} == {"oversized", "undecodable"}
    eventually(lambda: rig.pipeline.counts.snapshot().get("dead_letters") == num_letters)
    rig.pipeline.outbox.check()
    rig.intake.check()
    rig.close()
    assert len(rig.subscriptions) == 1
    assert committed(bus) == 0


def test_a_poison_event_becomes_a_dead_letter_and_its_neighbours_are_answered(rig: IntakeRig, bus: Bus) -> None:
    good = rig.encode
    rig.encode = lambda texts: [[1 << 20] if text == "poison" else good([text])[0] for text in texts]
    poison = Event(id="p", text="poison", key="k")
    send(bus, Event(id="a", text="good", key="k"), poison, Event(id="b", text="good", key="k"))
    rig.start()
    assert {answer.event_id for answer in received(bus, Answer, 2)} == {"a", "b"}
    (letter,) = received(bus, DeadLetter, 1)
    assert letter.reason == "model_failed"
    assert letter.topic.endswith(Event.TOPIC)
    assert msgspec.json.decode(letter.payload, type=Event) == poison
    rig.close()
    assert committed(bus) == 0


def test_before_the_first_weights_events_wait_in_the_broker(rig: IntakeRig, bus: Bus) -> None:
    rig.pipeline.engine.live = None
    send(bus, Event(id="e", text="hello"))
    rig.start()
    eventually(lambda: rig.intake._is_paused)
    assert (len(rig.pipeline.queue), rig.window.num_open) == (0, 0)
    rig.pipeline.engine.live = live_of([1])
    assert received(bus, Answer, 1)[0].event_id == "e"


def test_a_full_queue_pauses_the_partitions_and_loses_nothing(bus: Bus) -> None:
    rig = IntakeRig(bus, max_queue_items=8, max_open=16)
    rig.pipeline.engine.live = live_of([1])
    events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(300)]
    send(bus, *events)
    rig.start()
    answers = received(bus, Answer, len(events))
    assert {answer.event_id for answer in answers} == {event.id for event in events}
    rig.close()
    assert committed(bus) == 0


class Troubled:
    """A publisher that fails for the first records: `troubles` has the error of each."""

    def __init__(self, real: Publisher, *troubles: SendFailed) -> None:
        self._real = real
        self._troubles = list(troubles)

    def send(self, record: TopicRecord, on_ack: Any) -> None:
        if self._troubles:
            on_ack(self._troubles.pop(0))
        else:
            self._real.send(record, on_ack)

    def close(self) -> None:
        self._real.close()


def trouble(rig: IntakeRig, bus: Bus, *errors: SendFailed) -> None:
    troubled: Any = Troubled(bus.publisher(), *errors)
    rig.open_publisher = lambda: troubled


def test_an_answer_that_was_not_acknowledged_in_time_is_sent_again(rig: IntakeRig, bus: Bus) -> None:
    """B3, B15: the subscription was opened anew for it, and the group rebalanced."""
    trouble(rig, bus, *3 * [SendFailed("not acknowledged in time")])
    send(bus, Event(id="e", text="hello"))
    rig.start()
    assert received(bus, Answer, 1)[0].event_id == "e"
    assert rig.pipeline.counts.snapshot()["send_failed"] == 3
    assert rig.pipeline.counts.snapshot()["answers"] == 1
    rig.close()
    assert len(rig.subscriptions) == 1
    assert committed(bus) == 0


def test_an_answer_that_can_never_be_sent_becomes_a_letter_and_the_partition_moves_on(rig: IntakeRig, bus: Bus) -> None:
    """B3: the partition stood still for ever, and the group rebalanced every few seconds."""
    trouble(rig, bus, SendFailed("larger than the maximum request size", is_permanent=True))
    send(bus, Event(id="huge", text="hello", key="k"), Event(id="good", text="hello", key="k"))
    rig.start()
    (letter,) = received(bus, DeadLetter, 1)
    assert received(bus, Answer, 1)[0].event_id == "good"
    assert (letter.reason, letter.offset) == ("unsendable", 0)
    assert letter.topic.endswith(Event.TOPIC)
    rig.close()
    assert len(rig.subscriptions) == 1
    assert committed(bus) == 0


def test_another_event_under_the_same_name_is_refused(rig: IntakeRig, bus: Bus) -> None:
    """I1: the event was finished as a repetition, without an answer."""
    send(bus, Event(id="e", text="hello", key="k"), Event(id="e", text="good-bye", key="k"))
    rig.start()
    (letter,) = received(bus, DeadLetter, 1)
    (answer,) = received(bus, Answer, 1)
    assert answer.text == "hello"
    assert letter.reason == "conflicting_id"
    assert msgspec.json.decode(letter.payload, type=Event).text == "good-bye"
    rig.close()
    assert committed(bus) == 0


def test_a_fault_of_the_machine_makes_no_dead_letters(
    rig: IntakeRig, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B25 no. 9: a MemoryError made dead letters of good events."""
    has_memory = threading.Event()

    def short_of_memory(*args: Any, **options: Any) -> list[Answer]:
        if not has_memory.is_set():
            raise MemoryError
        return predict_many(*args, **options)

    monkeypatch.setattr("serving.engine.predict_many", short_of_memory)
    send(bus, *(Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(40)))
    rig.start()
    eventually(lambda: rig.pipeline.counts.snapshot().get("machine_faults", 0) > 80)
    has_memory.set()
    answers = received(bus, Answer, 40)
    assert len({answer.event_id for answer in answers}) == 40
    rig.close()
    assert "dead_letters" not in rig.pipeline.counts.snapshot()
    assert committed(bus) == 0


def test_events_that_a_fault_left_unanswered_do_not_hold_up_the_end(
    rig: IntakeRig, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> list[Answer]:
        raise MemoryError

    monkeypatch.setattr("serving.engine.predict_many", broken)
    send(bus, Event(id="e", text="hello"))
    rig.start()
    eventually(lambda: rig.pipeline.counts.snapshot().get("machine_faults", 0) > 0)
    started_s = time.monotonic()
    rig.intake.close()
    assert time.monotonic() - started_s < 4
    assert rig.window.num_open == 0
    rig.close()
    assert committed(bus) == 1
