"""The steps from one plan to the next that versions and labels make."""

import msgspec
import pytest

from rollout import operator
from rollout.config import RolloutConfig
from rollout.plans import (
    MIN_STABLE_MS,
    NotPossible,
    Rationale,
    begin,
    follow,
    follow_current,
    heal,
    make_stable,
    move_reference,
    promote,
    ramp,
    revert_to,
    rollback_target,
    withdraw,
)
from wire.draws import arm_for
from wire.records import CANDIDATE, NEWEST, STABLE, RolloutPlan

CONFIG = RolloutConfig(ramp=(0.0625, 0.25), newest_share=0.125)
GOOD = Rationale("B", "good", {"better": 5.0})
ONE = begin(1, salt="s", now_ms=1).plan
TWO = follow(ONE, 2, CONFIG, now_ms=2).plan
THREE = follow(TWO, 3, CONFIG, now_ms=3).plan


def arms(plan: RolloutPlan) -> list[tuple[str, int, float]]:
    return [(arm.name, arm.version, arm.share) for arm in plan.arms]


def following(plan: RolloutPlan | None, version: int) -> RolloutPlan | None:
    step = follow_current(plan, version, CONFIG, salt="s", now_ms=1)
    return step.plan if step else None


def test_the_first_version_answers_everything_and_is_the_reference() -> None:
    assert following(None, 0) is None
    first = following(None, 4)
    assert first is not None
    assert (first.revision, arms(first), first.reference) == (1, [(STABLE, 4, 1.0)], 4)


def test_a_newer_version_becomes_the_newest_and_the_candidate_where_there_is_none() -> None:
    assert arms(TWO) == [(STABLE, 1, 0.8125), (CANDIDATE, 2, 0.0625), (NEWEST, 2, 0.125)]
    three = following(TWO, 3)
    assert three is not None
    assert arms(three) == [(STABLE, 1, 0.8125), (CANDIDATE, 2, 0.0625), (NEWEST, 3, 0.125)]
    assert three.revision == TWO.revision + 1
    assert following(TWO, 2) is None
    assert following(TWO, 1) is None


def test_the_ramp_moves_entities_one_way_and_the_newest_arm_keeps_its_own() -> None:
    higher = ramp(THREE, 0.25, now_ms=4).plan
    assert arms(higher) == [(STABLE, 1, 0.625), (CANDIDATE, 2, 0.25), (NEWEST, 3, 0.125)]
    for number in range(500):
        before = arm_for(f"key-{number}", THREE).name
        after = arm_for(f"key-{number}", higher).name
        assert after == before or (before, after) == (STABLE, CANDIDATE)


def test_what_only_adds_is_stable_at_once() -> None:
    done = make_stable(THREE, 4, Rationale("A", "it names old classes as the reference does"), now_ms=4)
    assert arms(done.plan) == [(STABLE, 4, 1.0)]
    assert (done.plan.previous, done.plan.reference, done.current) == (1, 1, None)
    assert done.decision is not None
    assert (done.decision.action, done.decision.rule, done.decision.revision) == ("promoted", "A", done.plan.revision)


def test_the_newest_version_is_the_candidate_after_a_promotion() -> None:
    done = promote(THREE, GOOD, CONFIG, now_ms=4)
    assert arms(done.plan) == [(STABLE, 2, 0.8125), (CANDIDATE, 3, 0.0625), (NEWEST, 3, 0.125)]
    assert (done.plan.previous, done.plan.reference, done.current) == (1, 1, None)
    assert done.decision is not None
    assert (done.decision.version, done.decision.numbers, done.decision.stable) == (2, {"better": 5.0}, 2)
    assert arms(promote(TWO, GOOD, CONFIG, now_ms=4).plan) == [(STABLE, 2, 1.0)]


def test_the_reference_moves_with_a_version_that_is_better() -> None:
    assert promote(TWO, GOOD, CONFIG, moves_reference=True, now_ms=4).plan.reference == 2
    assert make_stable(THREE, 3, GOOD, moves_reference=True, now_ms=4).plan.reference == 3
    moved = move_reference(promote(TWO, GOOD, CONFIG, now_ms=4).plan, GOOD, now_ms=5)
    assert (moved.plan.reference, moved.plan.stable) == (2, 2)


def test_withdrawal_of_an_import_leaves_the_learner_where_it_is() -> None:
    done = withdraw(THREE, 2, Rationale("", "bad"), is_imported=True, now_ms=4)
    assert done.current is None and done.decision is not None
    assert (done.plan.candidate, done.plan.newest) == (0, THREE.newest)
    assert (done.decision.version, done.decision.action) == (2, "withdrawn")


def test_withdrawal_sets_the_learner_back() -> None:
    done = withdraw(THREE, 2, Rationale("", "bad"), now_ms=4)
    assert arms(done.plan) == [(STABLE, 1, 1.0)]
    assert done.current == 1
    assert done.decision is not None
    assert (done.decision.version, done.decision.action) == (2, "withdrawn")


def test_a_stable_version_that_turned_bad_is_replaced_by_an_older_one() -> None:
    plan = promote(THREE, GOOD, CONFIG, moves_reference=True, now_ms=4).plan
    done = revert_to(plan, 1, Rationale("change", "bad"), now_ms=5)
    assert arms(done.plan) == [(STABLE, 1, 1.0)]
    assert (done.current, done.plan.previous, done.plan.reference) == (1, 0, 1)
    assert done.decision is not None
    assert (done.decision.version, done.decision.action) == (2, "withdrawn")


def test_nothing_follows_while_pinned() -> None:
    pinned = operator.pin_step(TWO, 1, by="me", now_ms=4).plan
    assert arms(pinned) == [(STABLE, 1, 1.0)]
    assert following(pinned, 9) is None
    assert following(operator.unpin_step(pinned, by="me", now_ms=5).plan, 9) is not None


def test_without_a_candidate_there_is_nothing_to_decide() -> None:
    with pytest.raises(NotPossible, match="no candidate"):
        promote(ONE, GOOD, CONFIG, now_ms=1)


def test_a_plan_from_before_references_gets_one_with_the_next_version() -> None:
    old = RolloutPlan(revision=1, salt="s", arms=ONE.arms)
    after = following(old, 2)
    assert after is not None and after.reference == 1


def healed(plan: RolloutPlan, *stored: int, current: int = 9) -> RolloutPlan | None:
    step = heal(plan, stored=stored, current=current, now_ms=9)
    return step.plan if step else None


def test_a_plan_of_stored_versions_is_left_alone() -> None:
    promoted = promote(TWO, GOOD, CONFIG, now_ms=1).plan
    assert healed(TWO, 1, 2) is None
    assert healed(promoted, 1, 2) is None
    assert healed(TWO) is None, "nothing is stored: there is nothing to move to"


def test_a_stable_version_that_is_not_stored_is_followed_by_the_current_one() -> None:
    """B1: an earlier release may have left this state behind."""
    plan = promote(THREE, GOOD, CONFIG, now_ms=4).plan
    done = heal(plan, stored=(1, 7, 9, 12), current=9, now_ms=5)
    assert done is not None and done.decision is not None
    assert (arms(done.plan), done.plan.previous, done.plan.revision) == ([(STABLE, 9, 1.0)], 1, plan.revision + 1)
    assert (done.decision.version, done.decision.action) == (9, "promoted")
    assert done.plan.reason == "versions 2, 3 are not stored: version 9 answers"
    assert done.current is None


def test_where_the_learners_version_is_gone_too_the_newest_stored_one_follows() -> None:
    done = healed(ONE, 4, 5, current=9)
    assert done is not None and (arms(done), done.reference) == ([(STABLE, 5, 1.0)], 5)


def test_an_arm_or_a_version_to_return_to_that_is_not_stored_is_left_out() -> None:
    """B1: versions that a plan or a label still needed had been collected."""
    done = healed(TWO, 1)
    assert done is not None and arms(done) == [(STABLE, 1, 1.0)]
    promoted = promote(TWO, GOOD, CONFIG, now_ms=1).plan
    done = healed(promoted, 2)
    assert done is not None and (arms(done), done.previous, done.reference) == ([(STABLE, 2, 1.0)], 0, 2)


def test_a_pinned_plan_is_healed_and_stays_pinned() -> None:
    done = healed(operator.pin_step(TWO, 1, by="me", now_ms=4).plan, 9)
    assert done is not None and (arms(done), done.previous, done.pinned) == ([(STABLE, 9, 1.0)], 0, True)


def test_the_salt_stays_so_entities_stay() -> None:
    promoted = promote(TWO, GOOD, CONFIG, now_ms=1).plan
    back = operator.rollback_step(promoted, by="me", now_ms=1).plan
    assert {plan.salt for plan in (ONE, TWO, promoted, back)} == {"s"}


def test_a_rollback_returns_to_the_last_version_that_was_stable_for_a_while() -> None:
    """Versions that are made stable one after the other, several in a second, are hardly other ones."""
    plan = ONE
    for version in (2, 3, 4):
        plan = make_stable(follow(plan, version, CONFIG, now_ms=version).plan, version, GOOD, now_ms=version).plan
        assert (plan.stable, plan.previous, plan.stable_since_ms) == (version, 1, version)
    assert rollback_target(plan, 4 + MIN_STABLE_MS - 1) == 1
    lasted = 4 + MIN_STABLE_MS
    assert follow(plan, 5, CONFIG, now_ms=lasted - 1).plan.stable_since_ms == 4
    plan = make_stable(plan, 5, GOOD, now_ms=lasted).plan
    assert (plan.stable, plan.previous, plan.stable_since_ms) == (5, 4, lasted)


def test_a_plan_of_a_program_that_did_not_know_since_when_is_old_enough() -> None:
    plan = msgspec.structs.replace(TWO, stable_since_ms=0, previous=9)
    assert promote(plan, GOOD, CONFIG, now_ms=1_700_000_000_000).plan.previous == 1
