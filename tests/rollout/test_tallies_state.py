"""The versions that are compared under a plan, as they are kept in the store."""

import msgspec

from rollout.tallies import PlanKey, TalliesState
from wire.records import CANDIDATE, STABLE, Arm, RolloutPlan

STABLE_ARM = Arm(name=STABLE, version=4, share=0.75)
PLAN = RolloutPlan(revision=5, salt="s", arms=(STABLE_ARM,), previous=3, reference=2)


def test_a_frame_has_the_versions_of_a_plan_and_the_share_of_its_candidate() -> None:
    assert PlanKey.of(PLAN) == PlanKey(salt="s", stable=4, previous=3, reference=2)
    ramped = msgspec.structs.replace(PLAN, arms=(STABLE_ARM, Arm(name=CANDIDATE, version=6, share=0.25)))
    assert (PlanKey.of(ramped).candidate, PlanKey.of(ramped).share) == (6, 0.25)


def test_the_state_of_an_earlier_program_is_read() -> None:
    arms = {"stable": {"labels": 3, "correct": 2}, "candidate": {"labels": 1, "correct": 0}}
    earlier = {"offsets": {"feedback.v1/0": 7}, "arms": arms, "arms_since_ms": 9, "candidate": {"settled": {"wins": 3}}}
    state = msgspec.json.decode(msgspec.json.encode(earlier), type=TalliesState)
    assert (state.offsets, state.candidate.settled.wins, state.last_number) == ({"feedback.v1/0": 7}, 3, 0)
