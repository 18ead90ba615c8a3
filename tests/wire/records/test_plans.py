"""Tests the record of the rollout plan: its arms, and the versions that it needs."""

from pathlib import Path

import msgspec

from wire.records import CANDIDATE, NEWEST, STABLE, Arm, RolloutPlan

GOLDEN = Path(__file__).parents[1] / "golden"

PLAN = RolloutPlan(
    revision=4,
    salt="s1",
    arms=(
        Arm(name=STABLE, version=11, share=0.6875),
        Arm(name=CANDIDATE, version=12, share=0.25),
        Arm(name=NEWEST, version=15, share=0.0625),
    ),
    previous=9,
    reference=7,
    pinned=False,
    paused=True,
    approved=12,
    reason="ramp",
    time_ms=1_700_000_000_000,
    stable_since_ms=1_699_999_000_000,
)


def test_the_plan_from_before_the_newest_arm_is_read() -> None:
    old = msgspec.json.decode((GOLDEN / "rollout_plan.v1.before_newest.json").read_bytes(), type=RolloutPlan)
    arms = (Arm(name=STABLE, version=11, share=0.75), Arm(name=CANDIDATE, version=12, share=0.25))
    assert old == msgspec.structs.replace(PLAN, arms=arms, reference=0, paused=False, approved=0, stable_since_ms=0)
    assert (old.newest, old.needed) == (0, (11, 12, 9))


def test_needed_has_all_versions_of_a_plan_once() -> None:
    assert PLAN.needed == (11, 12, 15, 9, 7)
    assert msgspec.structs.replace(PLAN, previous=7, reference=11).needed == (11, 12, 15, 7)


def test_the_plan_names_its_arms() -> None:
    assert (PLAN.stable, PLAN.candidate, PLAN.newest, PLAN.versions) == (11, 12, 15, (11, 12, 15))
    empty = RolloutPlan(revision=1, salt="s", arms=())
    assert (empty.stable, empty.candidate, empty.newest, empty.versions) == (0, 0, 0, ())
