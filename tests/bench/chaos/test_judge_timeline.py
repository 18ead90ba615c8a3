"""Checks recovery times, silence, and revisions of plans that go back."""

import math

import pytest

from bench.chaos.judge import Heartbeat, longest_silence_s, recovered_s, recovery_s, revision_regressions

HEARTBEATS = [Heartbeat(0.0, 1.0), Heartbeat(2.0, 5.0), Heartbeat(4.0, 6.0), Heartbeat(7.0, 8.0)]


@pytest.mark.parametrize(("ended_s", "after_s"), [(0.0, 1.0), (1.0, 4.0), (3.0, 3.0), (6.5, 1.5), (7.5, math.inf)])
def test_only_work_begun_after_a_fault_shows_recovery(ended_s: float, after_s: float) -> None:
    assert recovered_s(HEARTBEATS, ended_s) == after_s


def test_the_slowest_track_decides() -> None:
    assert recovery_s({"http": HEARTBEATS, "kafka": [Heartbeat(1.0, 9.0)]}, 1.0) == 8.0
    assert recovery_s({"http": HEARTBEATS, "learner": []}, 1.0) == math.inf


def test_silence_is_counted_from_the_beginning_and_to_the_end() -> None:
    assert longest_silence_s(HEARTBEATS, 0.0, 9.0) == 4.0
    assert longest_silence_s(HEARTBEATS, 0.0, 20.0) == 12.0
    assert longest_silence_s([], 1.0, 3.5) == 2.5


REPLIES = [(Heartbeat(0.0, 1.0), 7), (Heartbeat(0.5, 1.5), 6), (Heartbeat(2.0, 3.0), 6), (Heartbeat(4.0, 5.0), 8)]


def test_a_revision_goes_back_if_a_higher_one_came_before_the_request() -> None:
    assert revision_regressions(REPLIES, []) == [2.0]
    assert revision_regressions(reversed(REPLIES), []) == [2.0], "whatever their order"


def test_revisions_may_restart_after_the_store_lost_them() -> None:
    assert revision_regressions(REPLIES, [1.2]) == []
    assert revision_regressions([*REPLIES, (Heartbeat(6.0, 7.0), 6)], [1.2]) == [6.0]


def test_a_replica_gives_old_revisions_until_it_reads_new_ones() -> None:
    late = [(Heartbeat(0.0, 1.0), 7), (Heartbeat(2.0, 2.5), 7), (Heartbeat(2.9, 3.2), 7), (Heartbeat(3.0, 3.1), 1)]
    after = (Heartbeat(3.3, 3.4), 2)
    assert revision_regressions([*late, after], [1.5]) == []
    assert revision_regressions([*late, after, (Heartbeat(4.0, 5.0), 1)], [1.5]) == [4.0], "once for each loss"
    assert revision_regressions([*late, after, (Heartbeat(4.0, 5.0), 1)], [1.5, 3.5]) == []
