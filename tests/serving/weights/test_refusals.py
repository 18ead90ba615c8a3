"""Which versions are not tried, for how long, and what is reported of them."""

from dataclasses import dataclass

import pytest

from serving.errors import VersionRefused
from serving.weights.refusals import MAX_DAMAGED, PLAN, REPAIR_S, Refusals


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> Refusals:
    return Refusals(retry_s=30, clock=clock)


def corrupt(*digests: str) -> VersionRefused:
    return VersionRefused("blob_corrupt", "its bytes are others", damaged=digests)


def test_a_refused_version_is_left_alone_for_a_while(refusals: Refusals, clock: Clock) -> None:
    refusals.add(7, VersionRefused("wrong_spec", "of another model"))
    assert (refusals.must_wait(7), refusals.must_wait(8)) == (True, False)
    clock.now_s = 30
    assert not refusals.must_wait(7)


def test_what_may_be_repaired_is_looked_at_sooner(refusals: Refusals, clock: Clock) -> None:
    refusals.add(7, corrupt("d1"))
    clock.now_s = REPAIR_S
    assert not refusals.must_wait(7)


def test_after_a_notice_it_is_looked_at_at_once(refusals: Refusals) -> None:
    refusals.add(7, corrupt("d1"))
    refusals.add(8, VersionRefused("wrong_spec", "of another model"))
    refusals.retry_damaged()
    assert (refusals.must_wait(7), refusals.must_wait(8)) == (False, True)


def test_a_reason_counts_once_until_the_version_was_taken(refusals: Refusals) -> None:
    for _ in range(3):
        refusals.add(PLAN, VersionRefused("old_plan", "revision 1"))
    refusals.clear(PLAN)
    refusals.add(PLAN, VersionRefused("old_plan", "revision 1"))
    assert refusals.counts == {"old_plan": 2}


def test_damaged_blobs_are_those_of_versions_that_are_still_wanted(refusals: Refusals) -> None:
    refusals.add(7, corrupt("d2", "d1"))
    refusals.add(8, corrupt("d2", "d3"))
    assert (refusals.damaged, refusals.damaged_versions) == (("d1", "d2", "d3"), {7, 8})
    refusals.keep([7])
    assert refusals.damaged == ("d1", "d2")
    refusals.clear(7)
    assert not refusals.damaged


def test_what_is_reported_is_bounded(refusals: Refusals) -> None:
    refusals.add(7, corrupt(*(f"d{number}" for number in range(1_000))))
    assert len(refusals.damaged) == MAX_DAMAGED
