"""Checks which records are found in the tails of files."""

from collections import Counter

import pytest

from bench.chaos.synced import BATCH_START, LostTails, Tail, end_of_whole_batches, event_numbers_in_payloads


def batch(number: int) -> bytes:
    return make_batch(b'header {"event_id":"chaos-%d","text":"chaos-99"}' % number, number)


def event(number: int) -> bytes:
    """Makes the batch of an event, whose id is in a header. Further digits follow the digits of the id."""
    name = b"chaos-%d" % number
    return make_batch(b"header\n" + b"ce_id" + bytes([2 * len(name)]) + name + b"12", number)


def make_batch(body: bytes, number: int) -> bytes:
    return BATCH_START.pack(number, len(body)) + body


LOG = b"".join(map(batch, range(3)))
LENGTH = len(batch(0))


def tail(path: str, kept: int, written: bytes = LOG, synced_s: float = 50.0) -> Tail:
    return Tail(path, kept, written, synced_s)


@pytest.mark.parametrize(
    ("kept", "numbers"),
    [(0, [0, 1, 2]), (LENGTH, [1, 2]), (LENGTH + 30, [1, 2]), (2 * LENGTH - 1, [1, 2]), (2 * LENGTH, [2])],
)
def test_a_batch_that_is_torn_is_lost_whole(kept: int, numbers: list[int]) -> None:
    torn = tail("kafka/logs/answers.v1-0/00000000000000000000.log", kept)
    assert event_numbers_in_payloads(torn.written[end_of_whole_batches(torn) :]) == numbers


def test_each_topic_loses_its_own() -> None:
    lost = LostTails()
    tails = [tail(f"kafka/logs/{topic}-3/00000000000000000000.log", LENGTH) for topic in ("answers.v1", "feedback.v1")]
    tails.append(tail("kafka/logs/events.v1-0/00000000000000000000.log", 0, event(7)))
    tails.append(tail("redis/appendonly.aof", 0, b"x" * 10))
    lost.add(tails, cut_s=60.0)
    assert (lost.events, lost.answers, lost.labels) == (Counter([7]), Counter([1, 2]), Counter([1, 2]))
    assert lost.numbers == {1, 2, 7}
    assert lost.num_bytes == 4 * LENGTH + len(event(7)) + 10


def test_an_answer_in_a_spool_is_an_answer() -> None:
    lost = LostTails()
    lost.add([tail("spool/7.spool", 0, b'{"event_id":"chaos-4"}')], cut_s=60.0)
    assert lost.answers == Counter([4])


def test_only_the_last_sync_of_the_broker_counts() -> None:
    lost = LostTails()
    lost.add([tail("redis/appendonly.aof", 0, synced_s=10.0)], cut_s=60.0)
    assert lost.synced_s == 60.0
    lost.add([tail("kafka/logs/__consumer_offsets-0/0.log", 0, synced_s=40.0)], cut_s=70.0)
    assert lost.synced_s == 40.0
