"""Following every partition from offsets that the reader keeps."""

from typing import Any

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from tests.brokers import eventually, take
from tests.wire.bus.traffic import events, ids, only_kafka, send
from wire.bus import Bus, Publisher
from wire.errors import LogTruncated
from wire.records import Answer, Event

pytestmark = pytest.mark.live


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
