"""Tests the traffic split: arms are sticky under ramps, have their shares, and are the same in every process."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wire.draws import arm_for, uniform_hash
from wire.records import CANDIDATE, STABLE, Arm, RolloutPlan

keys = st.text(min_size=1, max_size=30)
shares = st.floats(0, 1)


def build_plan(share: float, *, salt: str = "s", revision: int = 1) -> RolloutPlan:
    stable = Arm(name=STABLE, version=1, share=1.0 - share)
    return RolloutPlan(revision=revision, salt=salt, arms=(stable, Arm(name=CANDIDATE, version=2, share=share)))


def test_places_do_not_change() -> None:
    places = [round(uniform_hash(key, "s"), 6) for key in ("customer-1", "customer-2", "")]
    assert places == [0.375777, 0.124821, 0.878895]


@given(keys, st.text(max_size=10), shares)
def test_the_arm_is_a_function_of_key_and_split(key: str, salt: str, share: float) -> None:
    first = arm_for(key, build_plan(share, salt=salt))
    assert first == arm_for(key, build_plan(share, salt=salt, revision=9))


@given(keys, shares, shares)
def test_a_ramp_moves_entities_one_way_only(key: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if arm_for(key, build_plan(low)).name == CANDIDATE:
        assert arm_for(key, build_plan(high)).name == CANDIDATE


@given(keys)
def test_shares_of_zero_and_one(key: str) -> None:
    assert arm_for(key, build_plan(0.0)).name == STABLE
    assert arm_for(key, build_plan(1.0)).name == CANDIDATE


@given(keys, st.lists(shares, min_size=1, max_size=4))
def test_every_entity_has_an_arm(key: str, weights: list[float]) -> None:
    total = sum(weights)
    arms = tuple(Arm(name=str(i), version=i, share=w / total if total else 0.0) for i, w in enumerate(weights))
    assert arm_for(key, RolloutPlan(revision=1, salt="s", arms=arms)) in arms


def test_shares_are_respected() -> None:
    arms = (
        Arm(name=STABLE, version=1, share=0.7),
        Arm(name=CANDIDATE, version=2, share=0.25),
        Arm(name="third", version=3, share=0.05),
    )
    plan = RolloutPlan(revision=1, salt="s", arms=arms)
    counts = Counter(arm_for(f"customer-{i}", plan).name for i in range(20_000))
    for arm in arms:
        assert abs(counts[arm.name] / 20_000 - arm.share) < 0.01


def test_another_salt_is_another_split() -> None:
    moved = sum(arm_for(f"c{i}", build_plan(0.5)) != arm_for(f"c{i}", build_plan(0.5, salt="t")) for i in range(2_000))
    assert moved in range(901, 1_100)
