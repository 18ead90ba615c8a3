"""Events from a real broker to acknowledged answers, and the refusals on the way."""

from contextlib import closing
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from tests.serving.kafka.intake_rig import IntakeRig, committed, received, send
from tests.serving.versions import label_of
from tests.waiting import eventually
from wire.bus import Bus
from wire.records import MAX_EVENT_BYTES, Answer, DeadLetter, Event

pytestmark = pytest.mark.live


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
