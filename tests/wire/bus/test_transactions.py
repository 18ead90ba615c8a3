"""Transactions on a real Kafka: readers see all of one or nothing; a member without its partitions commits nothing."""

from collections.abc import Callable
from contextlib import closing

import pytest

from tests.brokers import take
from tests.waiting import eventually
from tests.wire.bus.traffic import events, ids, send
from wire.bus import Bus, Publisher, Subscription
from wire.bus.transactions import RecordRefused, TransactionAborted, TransactionalPublisher
from wire.errors import BusUnavailable
from wire.records import DeadLetter, Event

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["kafka"], indirect=True)]


def letters(*details: str, payload: bytes = b"") -> list[DeadLetter]:
    return [
        DeadLetter(reason="test", detail=detail, topic="t", partition=0, offset=0, payload=payload, source="test")
        for detail in details
    ]


def details(bus: Bus) -> list[str]:
    """Returns the details of all letters that are seen, in order."""
    with closing(bus.follow([DeadLetter], {})) as follower:
        found = list[str]()
        for _ in range(20):
            found += [each.record.detail for each in follower.poll(100).received]
        return sorted(found)


def subscribed(bus: Bus) -> Subscription[Event]:
    return bus.subscribe(Event, "readers", commits_itself=False)


def commit(publisher: TransactionalPublisher, member: Subscription[Event], records: list[DeadLetter]) -> None:
    transaction = member.transaction(lambda position: True)
    publisher.commit(records, transaction.offsets, transaction.member)
    member.committed(transaction.offsets)


def test_records_and_offsets_are_committed_together(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher
) -> None:
    send(publisher, *events(4, key="k"))
    with closing(bus.transactions()) as transactions:
        with closing(subscribed(bus)) as member:
            take(member.poll, 4)
            commit(transactions, member, letters("a", "b"))
            assert not member.transaction(lambda position: True).offsets
        assert details(bus) == ["a", "b"]
        send(publisher, *events(1, start=4, key="k"))
        with closing(subscribed(open_bus())) as other:
            assert [each.record.id for each in take(other.poll, 1)] == ["e4"]


def test_who_has_left_the_group_commits_nothing_and_its_successor_does(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher
) -> None:
    send(publisher, *events(4, key="k"))
    with closing(bus.transactions()) as transactions:
        with closing(subscribed(bus)) as left:
            take(left.poll, 4)
            transaction = left.transaction(lambda position: True)
        with pytest.raises(TransactionAborted):
            transactions.commit(letters("lost"), transaction.offsets, transaction.member)
        with closing(subscribed(open_bus())) as member:
            take(member.poll, 4)
            commit(transactions, member, letters("found"))
    assert details(bus) == ["found"]


def test_after_a_rebalance_all_that_is_not_committed_comes_again(
    bus: Bus, open_bus: Callable[[], Bus], publisher: Publisher
) -> None:
    """This holds also for a partition that stays: another member may have had it in a generation that was missed."""
    send(publisher, *(Event(id=key, text="hello", key=key) for key in "abcdefgh"))
    again: set[str] = set()
    with closing(subscribed(bus)) as member:
        before = take(member.poll, 8)
        with closing(subscribed(open_bus())) as other:

            def have_all() -> bool:
                again.update(ids(member.poll(50).received), ids(other.poll(50).received))
                return again == set("abcdefgh")

            eventually(have_all)
            assert member.partitions and other.partitions
        assert not any(member.is_ours(each.position) for each in before)


def test_a_record_that_no_broker_takes_is_named_and_the_others_go_without_it(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(4, key="k"))
    (large,) = letters("large", payload=bytes(12 << 20))
    with closing(bus.transactions()) as transactions, closing(subscribed(bus)) as member:
        take(member.poll, 4)
        with pytest.raises(RecordRefused) as refused:
            commit(transactions, member, [*letters("a"), large])
        assert refused.value.record is large and refused.value.is_permanent
        commit(transactions, member, letters("a"))
    assert details(bus) == ["a"]


def test_the_next_publisher_of_a_name_ends_the_one_before(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(4, key="k"))
    with closing(bus.transactions()) as before, closing(subscribed(bus)) as member:
        take(member.poll, 4)
        with closing(bus.transactions()) as after:
            with pytest.raises(BusUnavailable) as refused:
                commit(before, member, letters("before"))
            assert not isinstance(refused.value, TransactionAborted)
            commit(after, member, letters("after"))
    assert details(bus) == ["after"]
