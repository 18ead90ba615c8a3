"""Tests the Kafka client as a whole, on real brokers: records are delivered, and survive a restart of the broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.local import children
from services.local.kafka import LocalBroker
from tests.brokers import start_kind, take
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, kept_ports, kill, only_kafka, patient, send, settle
from tests.wire.samples import SAMPLES
from wire.bus import Bus, Follower, Position, Publisher
from wire.config import BusConfig
from wire.errors import BusUnavailable
from wire.records import TOPIC_RECORDS, Event

pytestmark = pytest.mark.live


def test_every_record_travels(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *SAMPLES)
    received = take(bus.follow(TOPIC_RECORDS, {}).poll, len(SAMPLES))
    assert {item.record.TYPE: item.record for item in received} == {record.TYPE: record for record in SAMPLES}


def test_topics_are_made_once(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(3))
    bus.create_topics()
    assert sum(bus.end_offsets(Event).values()) == 3


def test_ends(bus: Bus, publisher: Publisher, topic: str) -> None:
    assert bus.end_offsets(Event) == {f"{topic}/{number}": 0 for number in range(4)}
    send(publisher, *events(5, key="k"))
    send(publisher, *events(4, key="k", start=5))
    assert sorted(bus.end_offsets(Event).values()) == [0, 0, 0, 9]


def test_a_broker_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{children.free_port()}"
    with pytest.raises(BusUnavailable, match=address):
        Bus(BusConfig(bootstrap_servers=address), "nobody").ping(timeout_ms=300)


def test_positions_name_their_record(bus: Bus, publisher: Publisher, topic: str) -> None:
    send(publisher, *events(1, key="k"))
    position = take(bus.subscribe(Event, "readers").poll, 1)[0].position
    assert position == Position(topic=topic, partition=position.partition, offset=0, generation=position.generation)


def test_new_partitions_are_read_by_all(
    bus: Bus, open_bus: Callable[[], Bus], broker: LocalBroker, admin: Any, foreign: Any, topic: str
) -> None:
    only_kafka(broker)
    first, second = (opened.subscribe(Event, "readers") for opened in (bus, open_bus()))
    settle(first, second, partitions=2)
    follower = bus.follow([Event], {})
    follower.poll(0)
    admin.create_partitions({topic: 6})
    settle(first, second, partitions=3)
    eventually(lambda: f"{topic}/5" in follower.poll(100).offsets)
    foreign.send(topic, value=b'{"text": "hello", "id": "new"}', partition=5).get(30)
    owner = first if 5 in first.partitions else second
    assert ids(take(follower.poll, 1)) == ["new"]
    assert ids(take(owner.poll, 1)) == ["new"]


def test_a_broker_that_comes_back_with_its_records(tmp_path: Path) -> None:
    find_port = kept_ports(2)
    broker = start_kind("kafka", tmp_path, find_port)
    bus = Bus(BusConfig(bootstrap_servers=broker.bootstrap_servers, client={"delivery_timeout_ms": 120_000}), "test")
    bus.create_topics()
    publisher = bus.publisher()
    member = bus.subscribe(Event, "readers")
    follower = bus.follow([Event], {})
    send(publisher, *events(20))
    followed = take(follower.poll, 20)
    logs = list_logs(follower)
    received = take(member.poll, 20)
    for item in received:
        member.finish(item.position)
    acks: list[Exception | None] = []
    kill(broker)
    for event in events(20, start=20):
        publisher.send(event, acks.append)
    patient(follower.poll)(100)
    broker = start_kind("kafka", tmp_path, find_port)
    publisher.flush(120)
    followed += take(patient(follower.poll), 20)
    while len(set(ids(received))) < 40:
        received += take(patient(member.poll), 1)
    assert list_logs(follower) == logs
    bus.close()
    broker.stop()
    assert acks == [None] * 20
    assert sorted(ids(followed)) == sorted(event.id for event in events(40))  # each once


def list_logs(follower: Follower) -> set[str]:
    return {mark.log for mark in follower.poll(0).marks.values()}
