"""Tests that one poll is bounded in bytes, and that polls return each record once, in order."""

from typing import Any

import pytest
from kafka.record import MemoryRecords  # type: ignore[import-untyped]

from tests.waiting import eventually
from tests.wire.bus import batch_bytes
from tests.wire.bus.batch_bytes import CODECS, PARTITION, batch
from wire.bus import Bus
from wire.bus.fetching import MAX_POLL_BYTES, ByteBudget, FetchedPartition, PollFull
from wire.records import MAX_EVENT_BYTES, Event

MEBIBYTE = b'{"text": "%s"}' % (b"x" * (MAX_EVENT_BYTES - 20))


def fetched(data: bytearray, budget: ByteBudget) -> FetchedPartition:
    return FetchedPartition(
        0,
        PARTITION,
        MemoryRecords(bytes(data)),
        budget=budget,
        isolation_level=1,
        aborted_transactions=None,
        on_drain=lambda _: None,
    )


def test_records_are_taken_in_portions() -> None:
    partition = fetched(batch(*[b"x"] * 5), ByteBudget())
    assert [raw.offset for raw in partition.take(2)] == [0, 1]
    assert partition.next_fetch_offset == 2
    assert [raw.offset for raw in partition.take(9)] == [2, 3, 4]
    assert not partition
    assert partition.take(1) == []


def test_a_budget_counts_all_partitions() -> None:
    budget = ByteBudget()
    first, second = (fetched(batch(*[MEBIBYTE] * 12), budget) for _ in range(2))
    assert len(first.take(100)) == 12
    # The last of these records spends the budget.
    assert len(second.take(100)) == 4
    with pytest.raises(PollFull):
        second.take(100)
    budget.renew()
    assert len(second.take(100)) == 8


@pytest.mark.live
def test_a_poll_ends_where_it_has_enough(bus: Bus, admin: Any, topic: str) -> None:
    """B4: kilobytes inflate to hundreds of megabytes, in batches that are valid one by one."""
    for _ in range(4):
        assert batch_bytes.produce(admin, topic, batch(*[MEBIBYTE] * 20, codec=CODECS["zstd"])) == 0
    follower = bus.follow([Event], {})
    offsets: list[int] = []

    def all_came() -> bool:
        received = follower.poll(100).received
        assert sum(len(item.record.text) for item in received) <= MAX_POLL_BYTES + MAX_EVENT_BYTES
        offsets.extend(item.position.offset for item in received)
        return len(offsets) >= 80

    eventually(all_came)
    assert offsets == list(range(80))
