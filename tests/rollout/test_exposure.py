"""How many answers the candidate gave, and the keys of the arms."""

import pytest

from rollout.exposure import Exposure
from wire.records import CANDIDATE, NEWEST, STABLE, STAND_IN, Answer, ArmName


def answer(arm: ArmName, key: str, *, revision: int = 5) -> Answer:
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
    )


def test_each_key_is_counted_once_for_the_arms_of_now() -> None:
    exposure = Exposure(since_revision=5)
    for arm, key in ((STABLE, "a"), (STABLE, "a"), (STAND_IN, "b"), (CANDIDATE, "c"), (CANDIDATE, "c"), (NEWEST, "d")):
        exposure.add(answer(arm, key))
    exposure.add(answer(CANDIDATE, "e", revision=4))
    traffic = exposure.traffic(stable_share=0.75, candidate_share=0.125)
    assert (traffic.keys, exposure.num_answers) == ((2, 1), 2)
    assert traffic.shares == pytest.approx((6 / 7, 1 / 7))
