"""Tests on real brokers that an unreadable message becomes a dead letter, and that the partition advances."""

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker, kafka_home
from tests.brokers import take
from tests.waiting import eventually
from tests.wire.bus import batch_bytes
from tests.wire.bus.batch_bytes import CODECS, READABLE, UNREADABLE, batch
from tests.wire.bus.traffic import ids, only_kafka, send
from wire.bus import Bus, Followed, Poll, Publisher, Received, Refused, Subscription
from wire.config import BusConfig
from wire.records import MAX_EVENT_BYTES, DeadLetter, Event

pytestmark = pytest.mark.live

LAST = b'{"text": "hello", "id": "good"}'


def until_good(poll: Callable[[int], Poll[Any] | Followed]) -> tuple[list[Received[Any]], list[Refused]]:
    """Returns what is read until the event `good`."""
    received: list[Received[Any]] = []
    refused: list[Refused] = []

    def moved_on() -> bool:
        came = poll(100)
        received.extend(came.received)
        refused.extend(came.refused)
        return "good" in ids(received)

    eventually(moved_on)
    return received, refused


def test_bad_messages_are_refused_and_the_partition_moves_on(
    bus: Bus, publisher: Publisher, foreign: Any, topic: str
) -> None:
    bad = {
        "oversized": b'{"text": "%s"}' % (b"x" * MAX_EVENT_BYTES),
        "empty": None,
        "undecodable": b"hello",
        "wrong_schema": b'{"txt": "hello"}',
    }
    for value in (*bad.values(), LAST):
        foreign.send(topic, value=value, key=b"k", partition=0).get(30)  # one by one: a retry would change the order

    member = bus.subscribe(Event, "readers")
    received, refused = until_good(member.poll)
    assert ids(received) == ["good"]
    assert [(item.dead_letter.reason, item.dead_letter.payload) for item in refused] == [
        (reason, value if value else b"") for reason, value in bad.items()
    ]
    send(publisher, *(item.dead_letter for item in refused))
    for position in [item.position for item in refused] + [item.position for item in received]:
        member.finish(position)
    member.close()  # commits what is finished
    foreign.send(topic, value=LAST, key=b"k", partition=0).get(30)
    assert until_good(bus.subscribe(Event, "readers").poll)[1] == []
    letters = take(bus.follow([DeadLetter], {}).poll, len(bad))
    assert {letter.record for letter in letters} == {item.dead_letter for item in refused}


def test_the_largest_message_fits_into_a_dead_letter(bus: Bus, publisher: Publisher, foreign: Any, topic: str) -> None:
    payload = os.urandom((8 << 20) - 1_000)
    foreign.send(topic, value=payload, partition=0).get(30)
    follower = bus.follow([Event], {})
    refused: list[Refused] = []

    def came() -> bool:
        refused.extend(follower.poll(100).refused)
        return bool(refused)

    eventually(came)
    send(publisher, refused[0].dead_letter)
    letter = take(bus.follow([DeadLetter], {}).poll, 1)[0].record
    assert (letter.reason, letter.payload) == ("oversized", payload)


def test_nothing_that_a_producer_sends_has_no_letter(bus: Bus, publisher: Publisher, foreign: Any, topic: str) -> None:
    """B2, B3: the messages have times beyond the calendar, and ids, headers and keys of megabytes."""
    long = "a" * (3 << 20)
    sent: list[dict[str, Any]] = [
        {"value": b'{"text": "hello"}', "timestamp_ms": 10**15},
        {"value": b'{"text": "hello"}', "headers": [("ce_time", b"\x01" * (3 << 20))]},
        {"value": b'{"text": "hello"}', "headers": [("ce_id", long.encode())]},
        {"value": b'{"text": "hello"}', "headers": [("ce_type", b"\x01" * (3 << 20))]},
        {"value": b'{"text": "hello"}', "headers": [("\u00e9" * 1_000, b"\xff")] * 900},
        {"value": b'{"text": "hello"}', "key": long.encode()},
        {"value": LAST},
    ]
    futures = [foreign.send(topic, partition=0, **message) for message in sent]
    foreign.flush(30)
    received, refused = until_good(bus.follow([Event], {}).poll)
    assert len(received) + len(refused) == sum(future.succeeded() for future in futures)
    assert [item.dead_letter.reason for item in refused] == ["oversized"] * 4
    send(publisher, *(item.dead_letter for item in refused), *(item.record for item in received))


BROKEN = {f"readable: {name}": make for name, make in READABLE.items()} | UNREADABLE


def test_every_batch_that_a_broker_takes_is_read_or_refused(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher, admin: Any, topic: str
) -> None:
    """B4: group member and follower read the same. Tansu accepts nearly every batch, Apache Kafka few of them."""
    accepted = [name for name, make in BROKEN.items() if batch_bytes.produce(admin, topic, make()) == 0]
    assert {f"readable: {name} frame" for name in CODECS} | {"readable: header name that is not UTF-8"} <= set(accepted)
    assert batch_bytes.produce(admin, topic, batch(LAST)) == 0

    member = bus.subscribe(Event, "readers")
    received, refused = until_good(member.poll)
    followed = until_good(bus.follow([Event], {}).poll)
    assert [item.record.id for item in followed[0]] == ids(received)
    assert [item.dead_letter.message_id for item in followed[1]] == [item.dead_letter.message_id for item in refused]
    assert {item.dead_letter.reason for item in refused} <= {"unreadable_batch"}
    assert len(refused) == len(set(accepted) & set(UNREADABLE))

    send(publisher, *(item.dead_letter for item in refused))
    for item in received + refused:
        member.finish(item.position)
    member.close()
    send(publisher, Event(id="later", text="a", key="k"))
    assert ids(take(open_bus().subscribe(Event, "readers").poll, 1)) == ["later"]


def test_snappy_of_the_java_client_is_read(broker: LocalBroker, bus: Bus, topic: str) -> None:
    """B4: batches of a producer with `compression.type=snappy`."""
    only_kafka(broker)
    producer = [f"{kafka_home()}/bin/kafka-run-class.sh", "org.apache.kafka.tools.ConsoleProducer"]
    options = ["--bootstrap-server", broker.bootstrap_servers, "--topic", topic, "--compression-codec", "snappy"]
    subprocess.run([*producer, *options], input=(LAST + b"\n") * 50, check=True, timeout=60, capture_output=True)
    assert ids(take(bus.follow([Event], {}).poll, 50)) == ["good"] * 50


def test_aborted_transactions_are_not_read(broker: LocalBroker, bus: Bus, bus_config: BusConfig, topic: str) -> None:
    """The offsets of aborted records and of markers are committed: the group has no lag in the end."""
    only_kafka(broker)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=f"{topic}.sender")
    producer.init_transactions()
    for value, ends in ((b'{"text": "aborted"}', producer.abort_transaction), (LAST, producer.commit_transaction)):
        producer.begin_transaction()
        producer.send(topic, value=value, partition=0).get(30)
        ends()
    producer.close()
    member = bus.subscribe(Event, "readers")
    received, refused = until_good(member.poll)
    assert (ids(received), refused) == (["good"], [])
    member.finish(received[0].position)
    assert committed(bus_config, member, TopicPartition(topic, 0), end=4)
    follower = bus.follow([Event], {})
    assert ids(until_good(follower.poll)[0]) == ["good"]
    eventually(lambda: not follower.poll(50).received and follower.lag() == 0)


def test_a_transaction_that_nobody_ends_stops_no_partition(
    broker: LocalBroker, bus: Bus, publisher: Publisher, topic: str
) -> None:
    """Apache Kafka aborts an abandoned transaction after its timeout, Tansu never does."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, transactional_id=f"{topic}.left", transaction_timeout_ms=2_000
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, value=b'{"text": "left", "id": "left"}', partition=0).get(30)
    producer._sender.force_close()
    for number in range(8):  # one at least lies behind it
        send(publisher, Event(id=f"e{number}", text="hello", key=f"k{number}"))
    received = take(bus.follow([Event], {}).poll, 8, within_s=60)
    assert {f"e{number}" for number in range(8)} <= set(ids(received))


def committed(bus_config: BusConfig, member: Subscription[Event], partition: TopicPartition, *, end: int) -> bool:
    """Whether the group commits `end` in time."""
    asks = KafkaConsumer(bootstrap_servers=bus_config.bootstrap_servers, group_id=f"{bus_config.prefix}readers")
    with closing(asks):
        eventually(lambda: not member.poll(20).received and asks.committed(partition) == end)
    return True
