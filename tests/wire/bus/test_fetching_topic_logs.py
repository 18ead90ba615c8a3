"""Tests that a recreated topic has another log: no offset and no place of the old log is valid in it."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from tests.brokers import start_kind, take
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, kept_ports, kill, patient, send
from wire.bus import Bus, Followed, Follower, Loss, Poll, Publisher
from wire.config import BusConfig
from wire.records import Event

pytestmark = pytest.mark.live

WITHOUT_ID = b'{"text": "hello"}'


def sent(foreign: Any, topic: str, num: int) -> None:
    """Sends events without ids to partition 0."""
    for _ in range(num):
        foreign.send(topic, value=WITHOUT_ID, partition=0)
    foreign.flush(30)


def test_every_reader_gives_the_same_ids(bus: Bus, open_bus: Callable[[], Bus], foreign: Any, topic: str) -> None:
    """B5: an id is made of the place and the log."""
    sent(foreign, topic, 3)
    polls: list[Callable[[int], Poll[Any] | Followed]] = [
        bus.subscribe(Event, "readers").poll,
        open_bus().subscribe(Event, "others").poll,
        bus.follow([Event], {}).poll,
    ]
    received_ids = [ids(take(poll, 3)) for poll in polls]
    (log,) = {mark.log for mark in bus.follow([Event], {}).poll(0).marks.values()}
    assert received_ids == 3 * [[f"{topic}/0/{offset}@{log}" for offset in range(3)]]
    assert len(log) == 22


def remake(admin: Any, bus: Bus, topic: str) -> None:
    """Recreates the topics, and the topic of events empty."""
    admin.delete_topics([topic])

    def is_there() -> bool:
        bus.create_topics()
        return topic in admin.list_topics()

    eventually(lambda: topic not in admin.list_topics())
    eventually(is_there)


def test_a_log_that_is_longer_than_the_old_one_is_noticed(
    bus: Bus, admin: Any, publisher: Publisher, topic: str
) -> None:
    """B25, number 11: only the log's id differs. A broker that stays up is asked every few seconds."""
    send(publisher, *events(5, key="k"))
    follower = bus.follow([Event], {})
    member = bus.subscribe(Event, "readers")
    take(member.poll, 5)
    received = take(follower.poll, 5)
    before = follower.poll(0)
    remake(admin, bus, topic)
    fresh = bus.publisher()
    eventually(partial(is_sent, fresh, events(9, key="k", start=50)))
    expected = [f"e{number}" for number in range(50, 59)]
    name = f"{topic}/{received[0].position.partition}"
    for reader in (follower, bus.follow([Event], before.offsets, marks=before.marks)):
        losses: list[Loss] = []
        assert reads(noting(reader, losses), expected)
        assert name in {loss.partition for loss in losses if loss.is_replaced}
    assert reads(patient(member.poll), expected)


def reads(poll: Callable[[int], Any], expected: list[str]) -> bool:
    """Reads until the last events are `expected`. A few events may come before them, until the new log is noticed."""
    came: list[str] = []

    def all_came() -> bool:
        came.extend(ids(poll(50).received))
        return came[-len(expected) :] == expected

    eventually(all_came)
    return True


def is_sent(publisher: Publisher, records: list[Event]) -> bool:
    """Whether all of `records` were sent: a topic has no leader right after its creation."""
    acks: list[Exception | None] = []
    for record in records:
        publisher.send(record, acks.append)
    publisher.flush(30)
    return acks == [None] * len(records)


def test_a_broker_that_forgets_gives_new_ids(tmp_path: Path) -> None:
    """B5: after a restart of Tansu no event without an id is taken for an earlier one."""
    find_port = kept_ports(1)
    broker = start_kind("tansu", tmp_path, find_port)
    config = BusConfig(
        bootstrap_servers=broker.bootstrap_servers, client={"session_timeout_ms": 2_000, "heartbeat_interval_ms": 200}
    )
    bus = Bus(config, "test")
    bus.create_topics()
    poll = patient(bus.subscribe(Event, "readers").poll)
    follower = bus.follow([Event], {})
    has_sent(broker, 20)
    before = ids(take(poll, 20))
    take(follower.poll, 20)
    kill(broker)
    broker = start_kind("tansu", tmp_path, find_port)
    bus.create_topics()
    eventually(partial(has_sent, broker, 30))
    after = ids(take(poll, 30))
    assert len(after) == 30
    assert not set(before) & set(after)
    assert [each.partition("@")[0] for each in after[:20]] == [each.partition("@")[0] for each in before]
    losses: list[Loss] = []
    assert len(take(noting(follower, losses), 30)) == 30
    assert any(str(loss).startswith("events.v1/0 was recreated") for loss in losses)
    bus.close()
    broker.stop()


def noting(follower: Follower, losses: list[Loss]) -> Callable[[int], Any]:
    """Returns a patient poll that adds the losses to `losses`."""

    def polled(timeout_ms: int) -> Any:
        followed = patient(follower.poll)(timeout_ms)
        losses.extend(followed.losses)
        return followed

    return polled


def has_sent(broker: LocalBroker, num: int) -> bool:
    """Whether a new producer can send."""
    try:
        with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as foreign:
            sent(foreign, "events.v1", num)
    except KafkaError:
        return False
    return True
