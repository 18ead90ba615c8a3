"""Tests members of a group: the finished prefix is committed, and nothing is lost when partitions are reassigned."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError, RebalanceInProgressError  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.waiting import eventually, suspend
from tests.wire.bus.traffic import events, ids, only_kafka, patient, send, settle
from wire.bus import Bus, Publisher, Received, Subscription
from wire.bus.offsets import REVOKE_TIMEOUT_MS
from wire.bus.subscription import _Rebalance
from wire.config import BusConfig
from wire.records import Event

pytestmark = pytest.mark.live


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


def test_the_lag_is_what_is_not_finished(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(6, key="k"))
    with closing(bus.subscribe(Event, "readers")) as member:
        assert member.lag == 0, "nothing is known yet"
        received = take(member.poll, 6)
        for item in received[:4]:
            member.finish(item.position)
        assert member.lag == 2
        member.pause()
        member.poll(20)
        assert member.lag == 2
        for item in received[4:]:
            member.finish(item.position)
        assert member.lag == 0


def test_members_share_and_take_over(bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher) -> None:
    send(publisher, *events(40))
    first = bus.subscribe(Event, "readers")
    before = take(first.poll, 40)  # all four partitions; nothing is finished yet
    second = open_bus().subscribe(Event, "readers")
    repeated_here, moved = settle(first, second, partitions=2)
    moved += take(second.poll, num_in(before, second.partitions) - len(moved))
    if repeated_here:
        # A member that misses a generation of its group resumes at the committed offsets, and there are none.
        assert repeated_here[0].position.generation > before[0].position.generation + 1, "else it keeps what it has"
        repeated_here += take(first.poll, num_in(before, first.partitions) - len(repeated_here))
    assert set(ids(moved)) == {item.record.id for item in before if item.position.partition in second.partitions}

    for item in [*before, *repeated_here]:  # of those whose partition went away nothing counts any more
        first.finish(item.position)

    reassigned = first.partitions
    first.close()
    settle(second, partitions=4)
    send(publisher, *events(40, start=100))
    after = take(second.poll, 40)
    assert sorted(ids(after)) == sorted(event.id for event in events(40, start=100))
    assert {item.position.partition for item in after} > set(reassigned)


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
    seen = [len(received)]

    def all_came() -> bool:
        for item in received:
            member.finish(item.position)
        received[:] = member.poll(100).received
        seen.append(len(received))
        total.update(ids(received))
        return len(total) == 1_500

    total = set(ids(received))
    held = member.poll(100).received + member.poll(100).received
    received += held
    total.update(ids(held))
    assert len(received) <= 600
    eventually(all_came)
    assert max(seen) <= 600


@pytest.mark.parametrize("polls", [0, 1, 8])
def test_who_leaves_while_it_joins_keeps_nobody_out(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher, polls: int
) -> None:
    send(publisher, *events(3))
    early = bus.subscribe(Event, "readers")
    for _ in range(polls):
        early.poll(20)
    early.close()
    assert len(take(open_bus().subscribe(Event, "readers").poll, 3)) == 3


@pytest.mark.alone
def test_the_commit_before_partitions_go_has_an_end(
    bus_config: BusConfig, broker: LocalBroker, publisher: Publisher, request: pytest.FixtureRequest
) -> None:
    """B25, number 10: this holds also if the coordinator is unknown, and uncommitted offsets are committed later."""
    send(publisher, *events(6, key="k"))
    patient_bus = Bus(bus_config.with_client(session_timeout_ms=10_000), "patient")  # it stays in the group meanwhile
    request.addfinalizer(patient_bus.close)
    member = patient_bus.subscribe(Event, "readers")
    received = take(member.poll, 6)
    for item in received:
        member.finish(item.position)
    consumer = member._consumer
    consumer._coordinator.coordinator_dead(KafkaTimeoutError())
    suspend(broker.process.pid)
    try:
        began_s = time.monotonic()
        consumer._net.run(_Rebalance(member).on_partitions_revoked, consumer.assignment())
        assert time.monotonic() - began_s < 1e-3 * REVOKE_TIMEOUT_MS + 2
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    assert member.num_failed_commits == 1
    partition = TopicPartition(received[0].position.topic, received[0].position.partition)
    asks = KafkaConsumer(bootstrap_servers=bus_config.bootstrap_servers, group_id=f"{bus_config.prefix}readers")
    with closing(asks):
        eventually(lambda: not patient(member.poll)(20).received and asks.committed(partition) == 6)


def test_records_in_flight_finish_before_partitions_go(bus: Bus, bus_config: BusConfig, publisher: Publisher) -> None:
    """Otherwise the next owner of the partition would process them a second time."""
    send(publisher, *events(6, key="k"))
    member = bus.subscribe(Event, "readers")
    received = take(member.poll, 6)
    consumer = member._consumer
    partition = TopicPartition(received[0].position.topic, received[0].position.partition)
    with ThreadPoolExecutor(1) as thread:
        revoked = thread.submit(consumer._net.run, _Rebalance(member).on_partitions_revoked, consumer.assignment())
        for item in reversed(received):
            assert not revoked.done()
            member.finish(item.position)
        revoked.result()
    asks = KafkaConsumer(bootstrap_servers=bus_config.bootstrap_servers, group_id=f"{bus_config.prefix}readers")
    with closing(asks):
        assert asks.committed(partition) == 6


def test_partitions_go_though_nothing_finishes_their_records(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(2))
    member = bus.subscribe(Event, "readers")
    first = take(member.poll, 2)[0]
    member.finish(first.position)
    member._consumer._net.run(_Rebalance(member).on_partitions_revoked, member._consumer.assignment())
    assert member.is_ours(first.position)


@contextmanager
def missing_the_next_generation(member: Subscription[Event]) -> Iterator[None]:
    """The assignment of the next generation reaches this member when another rebalance has begun, at the end of this.

    Meanwhile it waits for that, as a member does whose network is slow.
    """
    coordinator = member._consumer._coordinator
    process = coordinator._process_sync_group_response
    begun, may_end = threading.Event(), threading.Event()

    def overtaken(*_: Any) -> None:
        coordinator._process_sync_group_response = process
        begun.set()
        assert may_end.wait(30)
        coordinator.request_rejoin()
        raise RebalanceInProgressError

    coordinator._process_sync_group_response = overtaken
    with ThreadPoolExecutor(1) as thread:
        polled = thread.submit(lambda: [member.poll(50) for _ in range(600) if not begun.is_set()])
        yield
        may_end.set()
        assert begun.is_set() and not any(poll.received for poll in polled.result())


def test_who_has_missed_a_generation_goes_on_from_what_is_committed(
    bus: Bus, bus_config: BusConfig, broker: LocalBroker, publisher: Publisher, topic: str
) -> None:
    """Another member had its partitions in between: its records in flight do not count, and are not committed."""
    only_kafka(broker)
    send(publisher, *events(40))
    config = bus_config.with_client(session_timeout_ms=30_000)
    third, first, second = (Bus(config, client_id=name) for name in ("3", "2", "1"))  # who comes first gets the first
    with closing(first), closing(second), closing(third):
        leader = third.subscribe(Event, "readers")
        settle(leader, partitions=4)
        member = first.subscribe(Event, "readers")
        _, before = settle(leader, member, partitions=2)
        ours = [TopicPartition(topic, number) for number in member.partitions]
        ends = {each: bus.end_offsets(Event)[f"{each.topic}/{each.partition}"] for each in ours}
        before += take(member.poll, sum(ends.values()) - len(before))
        with missing_the_next_generation(member), ThreadPoolExecutor(2) as threads:
            newcomer = second.subscribe(Event, "readers")
            taken = list[Received[Event]]()

            def has_all() -> bool:
                polled = list(threads.map(lambda each: each.poll(20), (newcomer, leader)))
                taken.extend(polled[0].received)
                return len(taken) == len(before)

            eventually(has_all)
            assert set(ids(taken)) == set(ids(before))
            for item in taken:
                newcomer.finish(item.position)
            newcomer.close()
        settle(leader, member, partitions=2)
        assert [TopicPartition(topic, number) for number in member.partitions] == ours
        member.finish(before[0].position)
        member.close()
        asks = KafkaConsumer(bootstrap_servers=bus_config.bootstrap_servers, group_id=f"{bus_config.prefix}readers")
        with closing(asks):
            assert {each: asks.committed(each) for each in ours} == ends
