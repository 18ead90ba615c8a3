"""The steps from one plan to the next."""

import pytest

from rollout.plans import (
    NotPossible,
    begin,
    follow,
    follow_current,
    heal,
    pin,
    promote,
    rollback,
    unpin,
    withdraw,
    without_missing,
)
from wire.records import CANDIDATE, STABLE, RolloutPlan

ONE = begin(1, salt="s", now_ms=1).plan
TWO = follow(ONE, 2, share=0.2, now_ms=2).plan


def arms(plan: RolloutPlan) -> list[tuple[str, int, float]]:
    return [(arm.name, arm.version, arm.share) for arm in plan.arms]


def following(plan: RolloutPlan | None, version: int) -> RolloutPlan | None:
    step = follow_current(plan, version, share=0.2, salt="s", now_ms=1)
    return step.plan if step else None


def test_the_first_version_answers_everything() -> None:
    assert following(None, 0) is None
    first = following(None, 4)
    assert first is not None
    assert (first.revision, arms(first)) == (1, [(STABLE, 4, 1.0)])


def test_a_newer_version_becomes_candidate_and_replaces_the_one_before() -> None:
    assert arms(TWO) == [(STABLE, 1, 0.8), (CANDIDATE, 2, 0.2)]
    three = following(TWO, 3)
    assert three is not None
    assert arms(three) == [(STABLE, 1, 0.8), (CANDIDATE, 3, 0.2)]
    assert three.revision == TWO.revision + 1
    assert following(TWO, 2) is None
    assert following(TWO, 1) is None


def test_promotion_keeps_a_newer_candidate() -> None:
    three = follow(TWO, 3, share=0.2, now_ms=3).plan
    done = promote(three, 2, reason="good", now_ms=4)
    assert arms(done.plan) == [(STABLE, 2, 0.8), (CANDIDATE, 3, 0.2)]
    assert done.plan.previous == 1
    assert done.current is None
    assert done.entry is not None
    assert (done.entry.version, done.entry.action) == (2, "promoted")


def test_promotion_of_the_candidate_leaves_one_arm() -> None:
    assert arms(promote(TWO, 2, reason="good", now_ms=4).plan) == [(STABLE, 2, 1.0)]


def test_withdrawal_sets_the_learner_back() -> None:
    done = withdraw(TWO, 2, reason="bad", now_ms=4)
    assert arms(done.plan) == [(STABLE, 1, 1.0)]
    assert done.current == 1
    assert done.entry is not None
    assert (done.entry.version, done.entry.action) == (2, "withdrawn")


def test_rollback_returns_to_the_stable_version_before_once() -> None:
    promoted = promote(TWO, 2, reason="good", now_ms=4).plan
    done = rollback(promoted, reason="by hand", now_ms=5)
    assert arms(done.plan) == [(STABLE, 1, 1.0)]
    assert done.current == 1
    with pytest.raises(NotPossible, match="no earlier stable version"):
        rollback(done.plan, reason="by hand", now_ms=6)


def test_nothing_follows_while_pinned() -> None:
    pinned = pin(TWO, 1, now_ms=4).plan
    assert arms(pinned) == [(STABLE, 1, 1.0)]
    assert following(pinned, 9) is None
    after = unpin(pinned, now_ms=5).plan
    assert following(after, 9) is not None
    with pytest.raises(NotPossible, match="not pinned"):
        unpin(after, now_ms=6)


def healed(plan: RolloutPlan, *stored: int, current: int = 9) -> RolloutPlan | None:
    step = heal(plan, stored=stored, current=current, now_ms=9)
    return step.plan if step else None


def test_a_plan_of_stored_versions_is_left_alone() -> None:
    promoted = promote(TWO, 2, reason="", now_ms=1).plan
    assert healed(TWO, 1, 2) is None
    assert healed(promoted, 1, 2) is None
    assert healed(TWO) is None, "nothing is stored: there is nothing to move to"


def test_a_stable_version_that_is_not_stored_is_followed_by_the_current_one() -> None:
    """B1: an earlier release may have left this state behind."""
    plan = promote(follow(TWO, 3, share=0.2, now_ms=3).plan, 2, reason="good", now_ms=4).plan
    done = heal(plan, stored=(1, 7, 9, 12), current=9, now_ms=5)
    assert done is not None and done.entry is not None
    assert (arms(done.plan), done.plan.previous, done.plan.revision) == ([(STABLE, 9, 1.0)], 1, plan.revision + 1)
    assert (done.entry.version, done.entry.action) == (9, "promoted")
    assert done.plan.reason == "versions 2, 3 are not stored: version 9 answers"
    assert done.current is None


def test_where_the_learners_version_is_gone_too_the_newest_stored_one_follows() -> None:
    done = healed(ONE, 4, 5, current=9)
    assert done is not None and arms(done) == [(STABLE, 5, 1.0)]


def test_a_candidate_or_a_version_to_roll_back_to_that_is_not_stored_is_left_out() -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    done = healed(TWO, 1)
    assert done is not None and arms(done) == [(STABLE, 1, 1.0)]
    promoted = promote(TWO, 2, reason="", now_ms=1).plan
    done = healed(promoted, 2)
    assert done is not None and (arms(done), done.previous) == ([(STABLE, 2, 1.0)], 0)


def test_a_pinned_plan_is_healed_and_stays_pinned() -> None:
    done = healed(pin(TWO, 1, now_ms=4).plan, 9)
    assert done is not None and (arms(done), done.previous, done.pinned) == ([(STABLE, 9, 1.0)], 0, True)


def test_an_operator_may_leave_a_missing_version_behind() -> None:
    """B1: `lifelong rollout promote` helps without a controller as well."""
    step = promote(TWO, 2, reason="", now_ms=1)
    assert without_missing(step, {1, 2}) == step
    assert without_missing(step, {2}).plan.previous == 0


def test_the_salt_stays_so_entities_stay() -> None:
    promoted = promote(TWO, 2, reason="", now_ms=1).plan
    back = rollback(promoted, reason="", now_ms=1).plan
    assert {plan.salt for plan in (ONE, TWO, promoted, back)} == {"s"}


def test_the_stable_version_cannot_be_promoted() -> None:
    with pytest.raises(NotPossible, match="already"):
        promote(ONE, 1, reason="", now_ms=1)
