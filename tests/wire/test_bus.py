"""The Kafka door on real brokers: nothing is lost, nothing stops at a bad message, and every bound holds."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from services.local import tether
from services.local.kafka import LocalBroker
from tests.brokers import eventually, start_kind, take
from tests.wire.test_envelope import SAMPLES
from wire.bus import Bus, Poll, Position, Publisher, Received, Refused, Subscription
from wire.config import BusConfig
from wire.errors import BusUnavailable, LogTruncated, SendFailed
from wire.records import MAX_EVENT_BYTES, TOPIC_RECORDS, Answer, DeadLetter, Event, topic_name

pytestmark = pytest.mark.live


def events(num: int, *, start: int = 0, key: str = "") -> list[Event]:
    """Events `e0`, `e1`...; with a key they lie in one partition, in this order."""
    return [Event(id=f"e{number}", text="hello", key=key) for number in range(start, start + num)]


def send(publisher: Publisher, *records: Any) -> None:
    failures: list[Exception] = []
    for record in records:
        publisher.send(record, lambda error: failures.append(error) if error else None)
    publisher.flush(30)
    assert not failures


def ids(received: list[Received[Event]]) -> list[str]:
    return [item.record.id for item in received]


@pytest.fixture
def publisher(bus: Bus) -> Publisher:
    return bus.publisher()


@pytest.fixture
def topic(bus_config: BusConfig) -> str:
    return topic_name(bus_config.prefix, Event)


@pytest.fixture
def foreign(bus: Bus, bus_config: BusConfig) -> Iterator[Any]:
    """A producer that knows nothing of our envelope."""
    producer = KafkaProducer(bootstrap_servers=bus_config.bootstrap_servers, max_request_size=16 << 20)
    yield producer
    producer.close()


@pytest.fixture
def admin(bus_config: BusConfig) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=bus_config.bootstrap_servers)
    yield client
    client.close()


def test_every_record_travels(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *SAMPLES)
    received = take(bus.follow(TOPIC_RECORDS, {}).poll, len(SAMPLES))
    assert {item.record.TYPE: item.record for item in received} == {record.TYPE: record for record in SAMPLES}


def test_topics_are_made_once(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(3))
    bus.create_topics()
    assert sum(bus.end_offsets(Event).values()) == 3


def test_ends_and_lag(bus: Bus, publisher: Publisher, topic: str) -> None:
    assert bus.end_offsets(Event) == {f"{topic}/{number}": 0 for number in range(4)}
    send(publisher, *events(5, key="k"))
    send(publisher, *events(4, key="k", start=5))
    assert sorted(bus.end_offsets(Event).values()) == [0, 0, 0, 9]
    follower = bus.follow([Event], {})
    take(follower.poll, 9)
    assert follower.lag() == 0


def test_a_broker_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{tether.free_port()}"
    with pytest.raises(BusUnavailable, match=address):
        Bus(BusConfig(bootstrap_servers=address), "nobody").ping(timeout_ms=300)


def test_bad_messages_are_refused_and_the_partition_moves_on(
    bus: Bus, publisher: Publisher, foreign: Any, topic: str
) -> None:
    bad = {
        "oversized": b'{"text": "%s"}' % (b"x" * MAX_EVENT_BYTES),
        "empty": None,
        "undecodable": b"hello",
        "wrong_schema": b'{"txt": "hello"}',
    }
    for value in bad.values():
        foreign.send(topic, value=value, key=b"k", partition=0)
    foreign.send(topic, value=b'{"text": "hello", "id": "good"}', partition=0)
    foreign.flush(30)

    member = bus.subscribe(Event, "readers")
    received: list[Received[Event]] = []
    refused: list[Refused] = []

    def moved_on() -> bool:
        poll = member.poll(100)
        received.extend(poll.received)
        refused.extend(poll.refused)
        return bool(received)

    eventually(moved_on)
    assert ids(received) == ["good"]
    assert [(item.dead_letter.reason, item.dead_letter.payload) for item in refused] == [
        (reason, value if value else b"") for reason, value in bad.items()
    ]
    send(publisher, *(item.dead_letter for item in refused))
    for position in [item.position for item in refused] + [item.position for item in received]:
        member.finish(position)
    eventually(lambda: not member.poll(20).received and member.num_unfinished == 0)
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


def test_only_the_contiguous_prefix_is_committed(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher, topic: str
) -> None:
    send(publisher, *events(10, key="k"))
    first = bus.subscribe(Event, "readers")
    received = take(first.poll, 10)
    for index in (7, 0, 2, 1, 5):
        first.finish(received[index].position)
    first.close()

    second = open_bus().subscribe(Event, "readers")
    again = take(second.poll, 7)
    assert ids(again) == [f"e{number}" for number in range(3, 10)]
    for item in again:
        second.finish(item.position)
    second.close()

    send(publisher, *events(1, start=10, key="k"))
    assert ids(take(open_bus().subscribe(Event, "readers").poll, 1)) == ["e10"]


def test_the_prefix_is_committed_while_polling(
    bus: Bus, bus_config: BusConfig, publisher: Publisher, topic: str
) -> None:
    send(publisher, *events(6, key="k"))
    member = bus.subscribe(Event, "readers")
    received = take(member.poll, 6)
    partition = TopicPartition(topic, received[0].position.partition)
    threads = [threading.Thread(target=member.finish, args=(item.position,)) for item in received[:5]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asks = KafkaConsumer(bootstrap_servers=bus_config.bootstrap_servers, group_id=f"{bus_config.prefix}readers")
    try:
        eventually(lambda: not member.poll(20).received and asks.committed(partition) == 5)
    finally:
        asks.close()
    assert member.num_unfinished == 1


def settle(*members: Subscription[Event], partitions: int) -> list[list[Received[Event]]]:
    """Polls all members until each has `partitions` partitions; what each got.

    At the same time, as members do: whoever polls alone misses the answer of a group that waits for the others.
    """
    taken: list[list[Received[Event]]] = [[] for _ in members]

    def shared() -> bool:
        for got, poll in zip(taken, threads.map(lambda member: member.poll(20), members), strict=True):
            got.extend(poll.received)
        return all(len(member.partitions) == partitions for member in members)

    with ThreadPoolExecutor(len(members)) as threads:
        eventually(shared)
    return taken


def test_members_share_and_take_over(bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher) -> None:
    send(publisher, *events(40))
    first = bus.subscribe(Event, "readers")
    before = take(first.poll, 40)  # all four partitions; nothing is finished yet
    second = open_bus().subscribe(Event, "readers")
    repeated_here, moved = settle(first, second, partitions=2)
    moved += take(second.poll, num_in(before, second.partitions) - len(moved))
    assert repeated_here == []
    assert set(ids(moved)) == {item.record.id for item in before if item.position.partition in second.partitions}

    unfinished = first.num_unfinished
    for item in before:  # of those whose partition went away nothing counts any more
        first.finish(item.position)
    assert first.num_unfinished == 0
    assert unfinished == num_in(before, first.partitions)

    kept = first.partitions
    first.close()
    settle(second, partitions=4)
    send(publisher, *events(40, start=100))
    after = take(second.poll, 40)
    assert sorted(ids(after)) == sorted(event.id for event in events(40, start=100))
    assert {item.position.partition for item in after} > set(kept)


def num_in(received: list[Received[Event]], partitions: list[int]) -> int:
    return sum(item.position.partition in partitions for item in received)


def test_a_paused_member_stays_in_the_group(bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher) -> None:
    first = bus.subscribe(Event, "readers")
    first.pause()
    second = open_bus().subscribe(Event, "readers")
    settle(first, second, partitions=2)
    send(publisher, *events(40))
    ends = bus.end_offsets(Event)
    mine = sum(end for name, end in ends.items() if int(name.rpartition("/")[2]) in second.partitions)
    assert num_in(take(second.poll, mine), second.partitions) == mine
    assert not first.poll(100).received
    first.resume()
    assert len(take(first.poll, 40 - mine)) == 40 - mine


def test_a_full_partition_waits(
    open_bus: Callable[[], Bus], bus: Bus, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wire.bus.subscription.MAX_UNFINISHED", 600)  # 500 of them in one poll
    send(publisher, *events(1_500, key="k"))
    member = bus.subscribe(Event, "readers")
    received = take(member.poll, 101)
    seen: list[int] = [member.num_unfinished]

    def all_came() -> bool:
        for item in received:
            member.finish(item.position)
        received[:] = member.poll(100).received
        seen.append(member.num_unfinished)
        total.update(ids(received))
        return len(total) == 1_500

    total = set(ids(received))
    held = member.poll(100).received + member.poll(100).received
    received += held
    total.update(ids(held))
    assert member.num_unfinished <= 600
    eventually(all_came)
    assert max(seen) <= 600


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
    os.kill(broker.process.pid, signal.SIGSTOP)
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
        bootstrap_servers=broker.bootstrap_servers, delivery_timeout_ms=1_000, request_timeout_ms=500, prefix="p."
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


def keep_ports(monkeypatch: pytest.MonkeyPatch, num: int) -> None:
    """Every broker that is started and takes `num` ports gets the same ones."""
    ports = itertools.cycle([tether.free_port() for _ in range(num)])
    monkeypatch.setattr(tether, "free_port", lambda: next(ports))


def kill(broker: LocalBroker) -> None:
    broker.process.kill()
    broker.process.wait()


def patient(poll: Callable[[int], Any]) -> Callable[[int], Any]:
    """Polls that bring nothing while the broker is away."""

    def polled(timeout_ms: int) -> Any:
        try:
            return poll(timeout_ms)
        except BusUnavailable:
            return Poll(received=[], refused=[])

    return polled


def test_a_broker_that_comes_back_with_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_ports(monkeypatch, 2)
    broker = start_kind("kafka", tmp_path)
    bus = Bus(BusConfig(bootstrap_servers=broker.bootstrap_servers, delivery_timeout_ms=120_000), "test")
    bus.create_topics()
    publisher, member, follower = bus.publisher(), bus.subscribe(Event, "readers"), bus.follow([Event], {})
    send(publisher, *events(20))
    followed = take(follower.poll, 20)
    taken = take(member.poll, 20)
    for item in taken:
        member.finish(item.position)
    acks: list[Exception | None] = []
    kill(broker)
    for event in events(20, start=20):
        publisher.send(event, acks.append)
    patient(follower.poll)(100)
    broker = start_kind("kafka", tmp_path)
    publisher.flush(120)
    followed += take(patient(follower.poll), 20)
    while len(set(ids(taken))) < 40:
        taken += take(patient(member.poll), 1)
    bus.close()
    broker.stop()
    assert acks == [None] * 20
    assert sorted(ids(followed)) == sorted(event.id for event in events(40))  # each once


def test_a_broker_that_comes_back_without_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_ports(monkeypatch, 1)
    broker = start_kind("tansu", tmp_path)
    config = BusConfig(bootstrap_servers=broker.bootstrap_servers, session_timeout_ms=2_000, heartbeat_interval_ms=200)
    bus = Bus(config, "test")
    bus.create_topics()
    publisher, member, follower = bus.publisher(), bus.subscribe(Event, "readers"), bus.follow([Event], {})
    send(publisher, *events(20, key="k"))
    take(follower.poll, 20)
    take(member.poll, 20)
    kill(broker)
    broker = start_kind("tansu", tmp_path)
    bus.create_topics()
    acked = threading.Event()

    def was_sent() -> bool:
        publisher.send(events(1, start=99, key="k")[0], lambda error: None if error else acked.set())
        return acked.wait(0.1)

    eventually(was_sent)
    assert "e99" in ids(take(patient(member.poll), 1))
    with pytest.raises(LogTruncated, match="before our position 20"):
        take(patient(follower.poll), 1)
    bus.close()
    broker.stop()


def test_a_follower_goes_on_exactly_where_it_was(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(40))
    follower = bus.follow([Event, Answer], {})
    received = take(follower.poll, 40)
    offsets = follower.poll(0).offsets
    assert len(offsets) == 8
    follower.close()

    half = dict(offsets)
    unread = [item for item in received if item.position.offset % 2]
    for item in reversed(unread):
        half[f"{item.position.topic}/{item.position.partition}"] = item.position.offset
    expected = {
        item.record.id
        for item in received
        if item.position.offset >= half[f"{item.position.topic}/{item.position.partition}"]
    }
    again = bus.follow([Event, Answer], half)
    assert set(ids(take(again.poll, len(expected)))) == expected

    send(publisher, *events(1, start=99))
    assert ids(take(bus.follow([Event], offsets).poll, 1)) == ["e99"]

    again.seek({})
    assert len(take(again.poll, 41)) == 41


def test_a_follower_reads_each_partition_in_order(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(1_200))
    by_partition: dict[int, list[int]] = {}
    for item in take(bus.follow([Event], {}).poll, 1_200):
        by_partition.setdefault(item.position.partition, []).append(item.position.offset)
    assert len(by_partition) == 4
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())


def test_a_log_that_ends_before_us_is_an_error(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(8, key="k"))
    ends = bus.end_offsets(Event)
    partition = next(name for name, end in ends.items() if end == 8)
    follower = bus.follow([Event], {**ends, partition: 50})
    with pytest.raises(LogTruncated, match=f"{partition} ends at 8, before our position 50") as caught:
        eventually(lambda: bool(follower.poll(100).received))
    assert (caught.value.partition, caught.value.position, caught.value.end) == (partition, 50, 8)


def only_kafka(broker: LocalBroker) -> None:
    if broker.kind != "kafka":
        pytest.skip(f"{broker.kind} cannot do this")


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
    assert ids(take(follower.poll, 1)) == ids(take(owner.poll, 1)) == ["new"]


def test_a_follower_counts_what_expired(
    bus: Bus, broker: LocalBroker, publisher: Publisher, admin: Any, topic: str
) -> None:
    only_kafka(broker)
    send(publisher, *events(8, key="k"))
    received = take(bus.follow([Event], {}).poll, 8)
    partition = received[0].position.partition
    admin.delete_records({TopicPartition(topic, partition): 3})
    late = bus.follow([Event], {f"{topic}/{partition}": 1})
    assert ids(take(late.poll, 5)) == [f"e{number}" for number in range(3, 8)]
    assert late.num_expired == 2


def test_positions_name_their_record(bus: Bus, publisher: Publisher, topic: str) -> None:
    send(publisher, *events(1, key="k"))
    position = take(bus.subscribe(Event, "readers").poll, 1)[0].position
    assert position == Position(topic=topic, partition=position.partition, offset=0, generation=position.generation)
