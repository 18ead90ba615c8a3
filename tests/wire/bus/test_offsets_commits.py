"""What a subscription commits next. Its lag is in test_subscription, on a real broker."""

import threading

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from wire.bus.offsets import Commits, FinishedPrefix

ZERO, ONE = TopicPartition("events.v1", 0), TopicPartition("events.v1", 1)


@pytest.fixture
def finished() -> FinishedPrefix:
    finished = FinishedPrefix(limit=100)
    for partition in (ZERO, ONE):
        finished.open(partition)
    return finished


def test_what_is_finished_is_committed_once(finished: FinishedPrefix) -> None:
    commits = Commits(finished, threading.Lock())
    assert commits.begin_commit() == {}
    finished.finish(finished.add(ZERO, 7))
    offsets = commits.offsets()
    assert {partition: each.offset for partition, each in offsets.items()} == {ZERO: 8}
    commits.end_commit(offsets, None)
    assert commits.offsets() == {}
    commits.retain({ONE})
    assert set(commits.offsets()) == {ZERO}, "who gets a partition again commits again"


def test_before_anything_is_finished_the_committed_offset_and_its_epoch_stay(finished: FinishedPrefix) -> None:
    """Without the epoch, the next owner did not see that the log was truncated below it, and skipped what was new."""
    commits = Commits(finished, threading.Lock())
    commits.note_epoch(ZERO, 41, 1)
    position = finished.add(ZERO, 41)
    assert commits.begin_commit() == {}
    finished.finish(position)
    (committed,) = commits.offsets().values()
    assert (committed.offset, committed.leader_epoch) == (42, 1)


def test_the_next_commit_waits_for_the_interval(finished: FinishedPrefix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.bus.offsets.COMMIT_INTERVAL_S", 3_600.0)
    commits = Commits(finished, threading.Lock())
    finished.finish(finished.add(ZERO, 7))
    commits.end_commit(commits.begin_commit(), None)
    finished.finish(finished.add(ZERO, 8))
    assert commits.offsets() and not commits.begin_commit(), "the interval is not over"


def test_one_commit_is_under_way_at_a_time_and_a_failed_one_comes_again(
    finished: FinishedPrefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wire.bus.offsets.COMMIT_INTERVAL_S", 0.0)
    commits = Commits(finished, threading.Lock())
    finished.finish(finished.add(ZERO, 7))
    offsets = commits.begin_commit()
    assert offsets and commits.begin_commit() == {}
    commits.end_commit(offsets, KafkaError("no coordinator"))
    assert (set(commits.begin_commit()), commits.num_failed) == ({ZERO}, 1)
