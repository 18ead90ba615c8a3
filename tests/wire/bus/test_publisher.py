"""Tests the publisher: records are acknowledged, bounded, and sent from any thread."""

import os
import signal
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services.local.kafka import LocalBroker
from tests.brokers import start_kind, take
from tests.waiting import eventually, suspend
from tests.wire.bus.traffic import events, ids, kill, only_kafka, send
from wire.bus import Bus, Publisher
from wire.config import BusConfig
from wire.dead_letters import unsendable
from wire.errors import BusUnavailable, SendFailed, TopicMissing
from wire.message import Place
from wire.records import DeadLetter, Event, TopicRecord

pytestmark = pytest.mark.live


def test_the_sender_waits_when_too_much_is_in_flight(bus: Bus, bus_config: BusConfig, broker: LocalBroker) -> None:
    slow = Bus(replace(bus_config, max_in_flight=5), "slow")
    publisher = slow.publisher()
    send(publisher, *events(1))  # it knows the topic now
    sent: list[str] = []
    acked: list[Exception | None] = []
    most: list[int] = []

    def send_all() -> None:
        for event in events(12, start=1):
            publisher.send(event, acked.append)
            sent.append(event.id)
            most.append(len(sent) - len(acked))

    sender = threading.Thread(target=send_all)
    suspend(broker.process.pid)
    try:
        sender.start()
        sender.join(0.5)
        assert sender.is_alive()
        assert (len(sent), acked) == (5, [])
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    sender.join(30)
    slow.close()
    assert acked == [None] * 12
    assert max(most) <= 5


def test_the_sender_waits_when_too_many_bytes_are_in_flight(bus_config: BusConfig, broker: LocalBroker) -> None:
    """B22: a few large letters fill the memory like many small answers."""
    letter = DeadLetter(reason="r", detail="d", topic="t", partition=0, offset=0, payload=bytes(6 << 20))
    with closing(Bus(replace(bus_config, max_in_flight_bytes=16 << 20), "slow")) as slow:
        slow.create_topics()
        publisher = slow.publisher()
        send(publisher, letter)
        acked: list[Exception | None] = []
        sent: list[DeadLetter] = []

        def send_all() -> None:
            for _ in range(5):
                publisher.send(letter, acked.append)
                sent.append(letter)

        sender = threading.Thread(target=send_all)
        suspend(broker.process.pid)
        try:
            sender.start()
            sender.join(0.5)
            assert (len(sent), acked) == (2, [])
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        sender.join(30)
        publisher.flush(30)
    assert acked == [None] * 5


def test_a_close_whose_flush_takes_too_long_ends_the_sender_all_the_same(bus: Bus, broker: LocalBroker) -> None:
    """The client library would leave its thread running, and the record without an end."""
    before = set(threading.enumerate())
    publisher = bus.publisher()
    send(publisher, *events(1))
    acks: list[Exception | None] = []
    suspend(broker.process.pid)
    try:
        publisher.send(events(1, start=1)[0], acks.append)
        with pytest.raises(BusUnavailable):
            publisher.close(0.2)
        eventually(lambda: bool(acks) and not (set(threading.enumerate()) - before))
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    assert isinstance(acks[0], SendFailed) and not acks[0].is_permanent


def send_all(publisher: Publisher, records: list[Event]) -> None:
    for record in records:
        publisher.send(record)


def test_many_threads_send(bus: Bus, publisher: Publisher) -> None:
    threads = [
        threading.Thread(target=send_all, args=(publisher, events(50, start=start))) for start in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.flush(30)
    received = take(bus.follow([Event], {}).poll, 400)
    assert sorted(ids(received)) == sorted(event.id for event in events(400))


def test_what_nobody_acknowledges_has_failed(tmp_path: Path) -> None:
    broker = start_kind("tansu", tmp_path)
    config = BusConfig(
        bootstrap_servers=broker.bootstrap_servers,
        prefix="p.",
        client={"delivery_timeout_ms": 1_000, "request_timeout_ms": 500},
    )
    bus = Bus(config, "sender")
    bus.create_topics()
    publisher = bus.publisher()
    send(publisher, *events(1))
    acks: list[Exception | None] = []
    settled = threading.Event()

    def on_ack(error: Exception | None) -> None:
        acks.append(error)
        settled.set()

    kill(broker)
    publisher.send(events(1)[0], on_ack)
    assert settled.wait(30)
    bus.close()
    assert isinstance(acks[0], SendFailed)


def send_failure(publisher: Publisher, record: TopicRecord) -> SendFailed:
    """Returns the error of sending `record`, raised or passed to `on_ack`."""
    told: list[Exception | None] = []
    try:
        publisher.send(record, told.append)
        publisher.flush(30)
    except SendFailed as error:
        return error
    assert isinstance(told[0], SendFailed)
    return told[0]


@pytest.mark.parametrize(
    "record",
    [
        Event(id="e", text="a", source="s" * (10 << 20)),
        Event(id="e", text="\ud800"),
        Event(id="\ud800", text="a"),
        Event(id="e", text="a", time_ms=-1),
        Event(id="e", text=object()),  # type: ignore[arg-type]
        Event(id=None, text="a"),  # type: ignore[arg-type]
        DeadLetter(reason="r", detail="d", topic="t", partition=0, offset=0, payload=bytes(9 << 20)),
    ],
    ids=["too large", "surrogate", "id", "time", "type", "nothing", "letter"],
)
def test_what_can_never_be_sent_says_so_and_its_letter_can(publisher: Publisher, record: TopicRecord) -> None:
    """B2, B3: the only error is SendFailed, and a dead letter can be sent in place of the record."""
    failed = send_failure(publisher, record)
    assert failed.is_permanent
    send(publisher, unsendable(record, failed, Place(topic="events.v1", partition=0, offset=7), source="sender"))


def test_what_the_topic_does_not_take_is_permanent(broker: LocalBroker, publisher: Publisher) -> None:
    """Tansu accepts records of any size, Apache Kafka enforces the limit of each topic."""
    only_kafka(broker)
    assert send_failure(publisher, Event(id="e", text="x" * (8 << 20))).is_permanent


def test_one_that_is_refused_blames_no_other(broker: LocalBroker, publisher: Publisher) -> None:
    """B3: the client library aborts all its records, and gives all of them the error of one."""
    only_kafka(broker)
    failed: dict[str, SendFailed] = {}
    send(publisher, *events(1))
    records = [*events(30), Event(id="large", text="x" * (8 << 20)), *events(30, start=30)]
    for record in records:
        publisher.send(record, partial(noted, failed, record.id))
    publisher.flush(30)
    assert {name for name, error in failed.items() if error.is_permanent} == {"large"}


def test_many_are_sent_or_the_first_failure_is_raised(bus: Bus, broker: LocalBroker, publisher: Publisher) -> None:
    publisher.send_all(iter(events(3)), 30)
    assert sorted(ids(take(bus.follow([Event], {}).poll, 3))) == ["e0", "e1", "e2"]
    only_kafka(broker)
    with pytest.raises(SendFailed):
        publisher.send_all([*events(1), Event(id="large", text="x" * (8 << 20))], 30)


def noted(failed: dict[str, SendFailed], name: str, error: Exception | None) -> None:
    if isinstance(error, SendFailed):
        failed[name] = error


def test_what_may_be_sent_later_is_not_permanent(bus_config: BusConfig, broker: LocalBroker) -> None:
    """The topic can be created while the record waits. Tansu creates every topic that is requested."""
    only_kafka(broker)
    with closing(Bus(replace(bus_config, prefix="nowhere.").with_client(request_timeout_ms=500), "early")) as early:
        publisher = early.publisher()
        with pytest.raises(TopicMissing, match=r"no topic nowhere\.events\.v1.*lifelong topics create"):
            raise send_failure(publisher, events(1)[0])


def test_after_a_record_has_expired_on_its_way_others_are_sent(tmp_path: Path) -> None:
    """B15: after an outage longer than the delivery timeout nothing was sent any more, and nothing failed."""
    broker = start_kind("tansu", tmp_path)
    config = BusConfig(
        bootstrap_servers=broker.bootstrap_servers, client={"delivery_timeout_ms": 1_000, "request_timeout_ms": 500}
    )
    with closing(Bus(config, "sender")) as bus:
        bus.create_topics()
        publisher = bus.publisher()
        send(publisher, *events(1))
        acks: list[Exception | None] = []
        expired = threading.Event()

        def on_ack(error: Exception | None) -> None:
            acks.append(error)
            expired.set()

        suspend(broker.process.pid)
        try:
            publisher.send(events(1)[0], on_ack)
            assert expired.wait(20)
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        assert isinstance(acks[0], SendFailed)
        assert not acks[0].is_permanent
        send(publisher, *events(20, start=1))
    broker.stop()
