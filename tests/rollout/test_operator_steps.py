"""What an operator may do to a plan."""

import pytest

from rollout import operator
from rollout.config import RolloutConfig
from rollout.plans import NotPossible, begin, follow
from wire.records import CANDIDATE, NEWEST, STABLE, RolloutPlan

CONFIG = RolloutConfig(ramp=(0.0625, 0.25), newest_share=0.125)
ONE = begin(1, salt="s", now_ms=1).plan
THREE = follow(follow(ONE, 2, CONFIG, now_ms=2).plan, 3, CONFIG, now_ms=3).plan
"""Version 1 is stable, 2 the candidate, 3 the newest one."""


def arms(plan: RolloutPlan) -> list[tuple[str, int]]:
    return [(arm.name, arm.version) for arm in plan.arms]


def test_what_an_operator_promotes_is_the_reference_and_the_newest_is_judged_next() -> None:
    done = operator.promote_step(THREE, 2, CONFIG, by="me", now_ms=4)
    assert arms(done.plan) == [(STABLE, 2), (CANDIDATE, 3), (NEWEST, 3)]
    assert (done.plan.previous, done.plan.reference, done.current) == (1, 2, None)
    assert done.decision is not None and (done.decision.rule, done.decision.reason) == ("operator", "me")


def test_a_newer_candidate_stays_the_candidate() -> None:
    plan = operator.promote_step(THREE, 3, CONFIG, by="me", now_ms=4).plan
    assert arms(plan) == [(STABLE, 3)]
    later = follow(follow(plan, 4, CONFIG, now_ms=5).plan, 5, CONFIG, now_ms=6).plan
    assert arms(operator.promote_step(later, 2, CONFIG, by="me", now_ms=7).plan)[1:] == [(CANDIDATE, 4), (NEWEST, 5)]


def test_a_version_that_is_started_takes_the_place_of_the_candidate() -> None:
    plan = operator.promote_step(THREE, 3, CONFIG, by="me", now_ms=4).plan
    done = operator.start_step(plan, 2, CONFIG, by="me", now_ms=5)
    assert [(arm.name, arm.version, arm.share) for arm in done.plan.arms][1:] == [(CANDIDATE, 2, CONFIG.ramp[0])]
    assert done.decision is not None and (done.decision.action, done.decision.version) == ("started", 2)
    again = operator.start_step(follow(done.plan, 4, CONFIG, now_ms=6).plan, 1, CONFIG, by="me", now_ms=7).plan
    assert arms(again) == [(STABLE, 3), (CANDIDATE, 1), (NEWEST, 4)]


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_stable_or_judged_cannot_be_started(version: int) -> None:
    with pytest.raises(NotPossible, match="already"):
        operator.start_step(THREE, version, CONFIG, by="me", now_ms=4)


def test_nothing_is_started_while_the_rollout_is_pinned() -> None:
    pinned = operator.pin_step(THREE, 1, by="me", now_ms=4).plan
    with pytest.raises(NotPossible, match="unpin"):
        operator.start_step(pinned, 3, CONFIG, by="me", now_ms=5)


def test_the_stable_version_cannot_be_promoted() -> None:
    with pytest.raises(NotPossible, match="already"):
        operator.promote_step(ONE, 1, CONFIG, by="me", now_ms=1)


def test_rollback_returns_to_the_stable_version_before_once() -> None:
    promoted = operator.promote_step(THREE, 2, CONFIG, by="me", now_ms=4).plan
    done = operator.rollback_step(promoted, by="me", now_ms=5)
    assert (arms(done.plan), done.plan.reference, done.current) == ([(STABLE, 1)], 1, 1)
    with pytest.raises(NotPossible, match="no earlier stable version"):
        operator.rollback_step(done.plan, by="me", now_ms=6)


def test_only_the_candidate_can_be_approved() -> None:
    assert operator.approve_step(THREE, 2, by="me", now_ms=4).plan.approved == 2
    with pytest.raises(NotPossible, match="not the candidate"):
        operator.approve_step(THREE, 3, by="me", now_ms=4)


def test_pin_and_pause_end_once() -> None:
    pinned = operator.pin_step(THREE, 2, by="me", now_ms=4).plan
    assert (arms(pinned), pinned.pinned, pinned.previous) == ([(STABLE, 2)], True, 1)
    free = operator.unpin_step(pinned, by="me", now_ms=5).plan
    with pytest.raises(NotPossible, match="not pinned"):
        operator.unpin_step(free, by="me", now_ms=6)
    paused = operator.pause_step(THREE, by="me", now_ms=4).plan
    assert (arms(paused), paused.paused) == (arms(THREE), True)
    with pytest.raises(NotPossible, match="paused already"):
        operator.pause_step(paused, by="me", now_ms=5)
    with pytest.raises(NotPossible, match="not paused"):
        operator.resume_step(operator.resume_step(paused, by="me", now_ms=5).plan, by="me", now_ms=6)


def test_an_operator_may_leave_a_missing_version_behind() -> None:
    """B1: `lifelong rollout promote` helps without a controller as well."""
    step = operator.promote_step(THREE, 2, CONFIG, by="me", now_ms=1)
    assert operator.without_missing(step, {1, 2, 3}) == step
    without = operator.without_missing(step, {2, 3}).plan
    assert (without.previous, without.reference) == (0, 2)
