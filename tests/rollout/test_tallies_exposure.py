"""How many answers the candidate gave, and the keys of the arms."""

import pytest

from rollout.judged_events import JudgedLabel
from rollout.tallies import FOLLOWED_MS, Exposure
from wire.receipts import Verdicts
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, ArmName, LabelRate, RolloutPlan

PLAN = RolloutPlan(revision=5, salt="s", arms=(), time_ms=1_000)
FOLLOWED = PLAN.time_ms + FOLLOWED_MS


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
    exposure = Exposure(PLAN)
    for arm, key in ((STABLE, "a"), (STABLE, "a"), (STAND_IN, "b"), (CANDIDATE, "c"), (CANDIDATE, "c"), (NEWEST, "d")):
        exposure.add(answer(arm, key))
    exposure.add(answer(CANDIDATE, "e", revision=4))
    traffic = exposure.traffic(stable_share=0.75, candidate_share=0.125)
    assert (traffic.keys, exposure.num_answers) == ((2, 1), 2)
    assert traffic.shares == pytest.approx((6 / 7, 1 / 7))


def label(arm: ArmName, entity: int, *, answer_ms: int = FOLLOWED) -> JudgedLabel:
    return JudgedLabel(verdicts=Verdicts(arm, 6, ()), name=1, source="desk", answer_ms=answer_ms, entity=entity)


def test_labels_are_counted_for_the_arm_that_was_shown_since_replicas_follow_the_plan() -> None:
    exposure = Exposure(PLAN)
    for arm, entity in ((STABLE, 1), (STABLE, 1), (CANDIDATE, -2), (CANDIDATE, 3), (NEWEST, 4)):
        exposure.add(answer(arm, str(entity)))
        exposure.add(answer(arm, f"{entity} again"))
        exposure.add_label(label(arm, entity))
    exposure.add(answer(STABLE, "early", time_ms=FOLLOWED - 1))
    exposure.add_label(label(STABLE, 9, answer_ms=FOLLOWED - 1))
    assert exposure.label_rates() == (
        LabelRate(arm=STABLE, answers=4, labels=2),
        LabelRate(arm=CANDIDATE, answers=4, labels=2),
        LabelRate(arm=NEWEST, answers=2, labels=1),
    )
    assert exposure.labelled(stable_share=0.75, candidate_share=0.25).keys == (1, 2)
