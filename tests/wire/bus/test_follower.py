"""Tests the follower, which reads every partition from offsets that the reader stores."""

import os
import random
import signal
import threading
from contextlib import closing
from typing import Any

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]

from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.waiting import eventually, suspend
from tests.wire.bus.traffic import events, ids, only_kafka, send
from tests.wire.samples import URGENCY, answer_to
from wire.bus import Bus, Follower, Loss, Publisher, Received, Refused, partition_name
from wire.config import BusConfig
from wire.records import Answer, Event, Feedback, TopicRecord
from wire.tasks import TaskNames

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
        half[partition_name(item.position)] = item.position.offset
    expected = {item.record.id for item in received if item.position.offset >= half[partition_name(item.position)]}
    again = bus.follow([Event, Answer], half)
    assert set(ids(take(again.poll, len(expected)))) == expected

    send(publisher, *events(1, start=99))
    assert ids(take(bus.follow([Event], offsets).poll, 1)) == ["e99"]

    again.seek({})
    assert len(take(again.poll, 41)) == 41


def test_a_follower_is_in_no_group_and_may_be_silent(
    bus: Bus, publisher: Publisher, admin: Any, bus_config: BusConfig
) -> None:
    """F11: a follower may take any time between polls: no member waits for it, and it loses no partition."""
    follower = bus.follow([Event], {})
    send(publisher, *events(3))
    take(follower.poll, 3)
    assert not [group for group in admin.list_groups() if bus_config.prefix in str(group)]
    send(publisher, *events(3, start=3))
    assert len(take(follower.poll, 3)) == 3


def test_a_follower_reads_each_partition_in_order(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(1_200))
    by_partition: dict[int, list[int]] = {}
    for item in take(bus.follow([Event], {}).poll, 1_200):
        by_partition.setdefault(item.position.partition, []).append(item.position.offset)
    assert len(by_partition) == 4
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())


def test_a_log_that_ends_before_us_is_read_on_from_its_end(bus: Bus, publisher: Publisher) -> None:
    """N6: it was read from its beginning."""
    send(publisher, *events(8, key="k"))
    ends = bus.end_offsets(Event)
    partition = next(name for name, end in ends.items() if end == 8)
    follower = bus.follow([Event], {**ends, partition: 50})
    losses: list[Loss] = []

    def has_lost() -> bool:
        losses.extend(follower.poll(100).losses)
        return bool(losses)

    eventually(has_lost)
    assert [str(loss) for loss in losses] == [
        f"{partition} was truncated at 8, before our position 50: the broker lost records"
    ]
    send(publisher, *events(1, start=8, key="k"))
    assert ids(take(follower.poll, 1)) == ["e8"]


def test_a_follower_counts_what_expired(
    bus: Bus, broker: LocalBroker, publisher: Publisher, admin: Any, topic: str
) -> None:
    only_kafka(broker)
    send(publisher, *events(8, key="k"))
    received = take(bus.follow([Event], {}).poll, 8)
    partition = received[0].position.partition
    admin.delete_records({TopicPartition(topic, partition): 3})
    late = bus.follow([Event], {f"{topic}/{partition}": 1})
    first = late.poll(0)
    assert first.num_expired == 2
    assert ids([*first.received, *take(late.poll, 5 - len(first.received))]) == [f"e{number}" for number in range(3, 8)]


def test_the_lag_is_known_without_asking(broker: LocalBroker, bus: Bus, publisher: Publisher) -> None:
    """B21: the lag is known without a request to the broker, which may be down."""
    send(publisher, *events(5, key="k"), *answers(3))
    follower = bus.follow([Event, Answer], {})
    assert follower.lag() == 8  # one for each partition: none was fetched yet
    assert follower.lag(Event) + follower.lag(Answer) == 8
    received = take(follower.poll, 8)
    eventually(lambda: not follower.poll(20).received and follower.lag() == 0)
    follower.pause([Answer])
    send(publisher, *events(4, key="k", start=5))
    suspend(broker.process.pid)
    try:
        lags = [follower.lag(), follower.lag(Event), follower.lag(Answer)]
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    assert lags[2] == 0 and len(received) == 8
    assert len(take(follower.poll, 4)) == 4
    eventually(lambda: not follower.poll(20).received and follower.lag() == 0)


def answers(num: int) -> list[Answer]:
    return [answer_to(f"a{number}") for number in range(num)]


def test_the_lag_is_what_is_left(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(1_200, key="k"))
    follower = bus.follow([Event], {})
    num_received = len(take(follower.poll, 1))
    while lag := follower.lag():
        excess = lag - (1_200 - num_received)
        assert excess in range(4)  # a partition that was not fetched yet counts as one record
        num_received += len(take(follower.poll, 1))
    assert num_received == 1_200


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_topics_are_paused_and_resumed_many_times(
    bus_config: BusConfig, publisher: Publisher, request: pytest.FixtureRequest, seed: int
) -> None:
    """B6: each record is delivered once and in order, and none while its topic is paused."""
    rng = random.Random(seed)
    num = 3_000
    bus = Bus(bus_config.with_client(max_poll_records=40), "sipping")
    request.addfinalizer(bus.close)
    follower = bus.follow([Event, Answer], {})
    sender = threading.Thread(target=send, args=(publisher, *events(num), *answers(num)))
    sender.start()
    offsets: dict[tuple[str, int], list[int]] = {}
    paused: set[type[TopicRecord]] = set()

    def all_came() -> bool:
        for record_type in (Event, Answer):
            if rng.random() < 0.5:
                follower.pause([record_type])
                paused.add(record_type)
            elif rng.random() < 0.5:
                follower.resume([record_type])
                paused.discard(record_type)
        for item in follower.poll(rng.choice([0, 1, 20])).received:
            assert type(item.record) not in paused
            offsets.setdefault((item.position.topic, item.position.partition), []).append(item.position.offset)
        return sum(len(each) for each in offsets.values()) >= 2 * num

    eventually(all_came)
    sender.join()
    assert len(offsets) == 8
    assert all(each == list(range(len(each))) for each in offsets.values())


def test_what_is_paused_keeps_its_offsets(bus: Bus, publisher: Publisher) -> None:
    send(publisher, *events(40), *answers(40))
    follower = bus.follow([Event, Answer], {})
    follower.pause([Event, Answer])
    assert not follower.poll(100).received
    follower.resume([Answer])
    assert {type(item.record) for item in take(follower.poll, 40)} == {Answer}
    offsets = follower.poll(0).offsets
    assert len(offsets) == 8
    again = bus.follow([Event, Answer], offsets)
    assert {type(item.record) for item in take(again.poll, 40)} == {Event}


def test_a_follower_of_a_task_gives_the_records_of_that_task(bus_config: BusConfig, publisher: Publisher) -> None:
    """A record for no task is refused by one reader only: the reader of the default task."""
    send(
        publisher,
        answer_to("e1", tasks={"urgency": URGENCY}),
        Feedback(event_id="e1", label="refund"),
        Feedback(event_id="e1", label="high", task="urgency"),
        Feedback(event_id="e1", label="red", task="colour"),
    )
    received: dict[str, list[Any]] = {}
    refused: dict[str, list[str]] = {}
    for task in ("", "urgency"):
        with closing(Bus(bus_config, f"reader-{task}", tasks=TaskNames(("urgency",), task))) as own:
            items, letters = read_all(own.follow([Answer, Feedback], {}))
        received[task] = [(item.record.label, item.record.task) for item in items]
        refused[task] = [letter.dead_letter.reason for letter in letters]
    assert sorted(received[""], key=str) == [("refund", ""), (None, "")]
    assert sorted(received["urgency"]) == [("high", "urgency"), ("high", "urgency")]
    assert refused == {"": ["unknown_task"], "urgency": []}


def read_all(follower: Follower) -> tuple[list[Received[Any]], list[Refused]]:
    """Reads to the ends of the topics; returns the records and the refused messages."""
    received: list[Received[Any]] = []
    refused: list[Refused] = []

    def is_read() -> bool:
        followed = follower.poll(100)
        received.extend(followed.received)
        refused.extend(followed.refused)
        return not follower.lag()

    eventually(is_read)
    return received, refused
