"""How many answers the candidate gave, and the keys of the arms."""

import pytest

from rollout.judged_events import JudgedLabel
from rollout.tallies import PLAN_PROPAGATION_MS, ArmTraffic
from wire.receipts import Verdicts
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, ArmName, LabelRate, RolloutPlan

PLAN = RolloutPlan(revision=5, salt="s", arms=(), time_ms=1_000)
FOLLOWED = PLAN.time_ms + PLAN_PROPAGATION_MS


def answer(arm: ArmName, key: str, *, revision: int = 5, time_ms: int = FOLLOWED) -> Answer:
    return Answer(
        event_id=key,
        text="",
        label="",
        score=1.0,
        weights_version=6,
        arm=arm,
        precision="int8",
        rollout_revision=revision,
        key=key,
        time_ms=time_ms,
    )


def test_each_key_is_counted_once_for_the_arms_of_now() -> None:
    arm_traffic = ArmTraffic(PLAN)
    for arm, key in ((STABLE, "a"), (STABLE, "a"), (STAND_IN, "b"), (CANDIDATE, "c"), (CANDIDATE, "c"), (NEWEST, "d")):
        arm_traffic.add(answer(arm, key))
    arm_traffic.add(answer(CANDIDATE, "e", revision=4))
    traffic = arm_traffic.split(stable_share=0.75, candidate_share=0.125)
    assert (traffic.keys, arm_traffic.num_answers) == ((1, 1), 2)
    assert traffic.shares == pytest.approx((6 / 7, 1 / 7))


def test_an_answer_of_a_stand_in_counts_for_no_arm_as_its_label_does() -> None:
    arm_traffic = ArmTraffic(PLAN)
    for arm in (STABLE, STAND_IN, CANDIDATE):
        arm_traffic.add(answer(arm, "a"))
    assert arm_traffic.split(stable_share=0.75, candidate_share=0.125).keys == (1, 0)
    assert [rate.answers for rate in arm_traffic.label_rates()] == [1, 1]


def label(arm: ArmName, entity: int, *, answer_ms: int = FOLLOWED) -> JudgedLabel:
    return JudgedLabel(verdicts=Verdicts(arm, 6, ()), name=1, source="desk", answer_ms=answer_ms, entity=entity)


def test_labels_are_counted_for_the_arm_that_was_shown_since_replicas_follow_the_plan() -> None:
    arm_traffic = ArmTraffic(PLAN)
    for arm, entity in ((STABLE, 1), (STABLE, 1), (CANDIDATE, -2), (CANDIDATE, 3), (NEWEST, 4)):
        arm_traffic.add(answer(arm, str(entity)))
        arm_traffic.add(answer(arm, f"{entity} again"))
        arm_traffic.add_label(label(arm, entity))
    arm_traffic.add(answer(STABLE, "early", time_ms=FOLLOWED - 1))
    arm_traffic.add_label(label(STABLE, 9, answer_ms=FOLLOWED - 1))
    assert arm_traffic.label_rates() == (
        LabelRate(arm=STABLE, answers=4, labels=2),
        LabelRate(arm=CANDIDATE, answers=4, labels=2),
        LabelRate(arm=NEWEST, answers=2, labels=1),
    )
    assert arm_traffic.labelled_split(stable_share=0.75, candidate_share=0.25).keys == (1, 2)
