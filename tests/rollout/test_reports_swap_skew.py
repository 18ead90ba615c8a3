"""How far apart replicas take a plan."""

from rollout.reports import RECENT_SWAPS, SwapSkews
from wire.records import ReplicaReport


def report(replica: str, revision: int, swapped_ms: int) -> ReplicaReport:
    return ReplicaReport(replica=replica, revision=revision, versions=(1,), time_ms=9_000, swapped_ms=swapped_ms)


def test_a_skew_is_known_once_all_replicas_follow_the_plan() -> None:
    skews = SwapSkews()
    skews.add([report("a", 1, 100), report("b", 1, 100)])
    skews.add([report("a", 2, 500), report("b", 1, 100)])
    assert skews.recent() == ()
    for _ in range(2):
        skews.add([report("a", 2, 500), report("b", 2, 620)])
    assert skews.recent() == (120.0,)


def test_a_replica_that_has_started_or_is_alone_has_no_skew() -> None:
    skews = SwapSkews()
    skews.add([report("a", 1, 100)])
    skews.add([report("a", 2, 200)])
    skews.add([report("a", 2, 200), report("b", 2, 60_000)])
    assert skews.recent() == ()
    skews.add([report("a", 3, 61_000), report("b", 3, 61_010)])
    assert skews.recent() == (10.0,)


def test_a_replica_of_an_older_program_tells_no_time() -> None:
    skews = SwapSkews()
    for revision in (1, 2):
        skews.add([report("a", revision, 0), report("b", revision, 100)])
    assert skews.recent() == ()


def test_the_last_ones_are_kept() -> None:
    skews = SwapSkews()
    for revision in range(RECENT_SWAPS + 9):
        skews.add([report("a", revision, 1), report("b", revision, 1 + revision)])
    assert skews.recent() == tuple(float(revision) for revision in range(9, RECENT_SWAPS + 9))
