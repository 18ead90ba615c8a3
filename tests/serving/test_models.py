"""The part of a plan that can be served."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.quantized import QuantizedEncoder, QuantizedHead, QuantizedModel
from serving.models import is_older, servable_part
from tests.serving.versions import (
    TINY,
    build_plan,
    encoder_weights,
    live_versions,
    make_labels,
    make_model,
    version_weights,
)
from wire.draws import arm_for
from wire.records import RolloutPlan


def test_a_plan_whose_versions_are_all_there_is_served_as_it_is() -> None:
    plan = build_plan(1, 2)
    assert servable_part(plan, {1, 2, 3}) is plan


def test_the_share_of_a_missing_candidate_goes_to_the_stable_arm() -> None:
    served = servable_part(build_plan(1, 2, revision=9), {1})
    assert served is not None
    assert (served.versions, served.revision) == ((1,), 9)


@pytest.mark.parametrize(
    ("plan", "loaded", "arms"),
    [
        (build_plan(3), {2}, [("stand-in", 2)]),
        (build_plan(3, previous=2), {1, 2}, [("stand-in", 2)]),
        (build_plan(3, 4), {2, 4}, [("stand-in", 2), ("candidate", 4)]),  # a candidate stands in for nobody
        (build_plan(3, 4), {4}, [("stand-in", 4), ("candidate", 4)]),  # unless it is alone
        (build_plan(3, 4), {1, 2}, [("stand-in", 2)]),
        (build_plan(3, 4), {9}, [("stand-in", 9)]),
    ],
)
def test_without_the_stable_version_the_newest_other_stands_in(
    plan: RolloutPlan, loaded: set[int], arms: list[tuple[str, int]]
) -> None:
    """B1: a replica that cannot load the stable version still answers, and its answers say so."""
    served = servable_part(plan, loaded)
    assert served is not None
    assert [(arm.name, arm.version) for arm in served.arms] == arms


def test_what_answers_nothing_limits_no_text() -> None:
    live = live_versions([1, 2])
    config = replace(TINY, max_pos=16)
    encoder = QuantizedEncoder.from_tensors(config, encoder_weights(0, config))
    model = QuantizedModel(encoder, QuantizedHead.from_tensors(config, version_weights(2)), make_labels(2))
    versions = {**live.versions, 2: replace(live.versions[2], model=model)}
    assert replace(live, versions=versions).max_tokens == 16
    assert replace(live, versions=versions, plan=build_plan(1)).max_tokens == 256


def test_versions_of_one_encoder_are_found_beside_each_other() -> None:
    live = live_versions([2, 1])
    stranger = replace(live.versions[2], number=3, model=make_model(3, encoder_seed=1))
    live = replace(live, versions={**live.versions, 3: stranger})
    assert [version.number for version in live.cohorts[1]] == [1, 2]
    assert live.cohorts[3] == (stranger,)


def test_without_any_version_nothing_is_served() -> None:
    assert servable_part(build_plan(1, 2), set()) is None


@given(
    plan=st.builds(build_plan, st.integers(1, 4), st.integers(0, 4), share=st.floats(0, 1), previous=st.integers(0, 4)),
    loaded=st.sets(st.integers(1, 5), min_size=1),
    key=st.text(max_size=8),
)
def test_every_entity_is_answered_by_a_loaded_version_and_by_its_own_arm_where_that_is_there(
    plan: RolloutPlan, loaded: set[int], key: str
) -> None:
    served = servable_part(plan, loaded)
    assert served is not None
    planned_arm = arm_for(key, plan)
    served_arm = arm_for(key, served)
    assert served_arm.version in loaded
    if planned_arm.version in loaded:
        assert served_arm == planned_arm
    else:
        assert served_arm.name == ("stable" if plan.stable in loaded else "stand-in")


def test_texts_end_where_the_stable_version_says_and_no_version_has_too_few_positions() -> None:
    live = live_versions([1, 2])
    versions = {1: replace(live.versions[1], max_tokens=40), 2: replace(live.versions[2], max_tokens=20)}
    assert replace(live, versions=versions).max_tokens == 40
    assert replace(live, versions=versions, plan=build_plan(2, 1)).max_tokens == 20
    far = versions | {1: replace(live.versions[1], max_tokens=9_999)}
    assert replace(live, versions=far).max_tokens == 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"revision": 4}, True),
        ({"revision": 4, "time_ms": 8}, True),
        ({"revision": 4, "time_ms": 10}, False),  # a backup was restored, and the rollout went on from there
        ({"revision": 1, "salt": "another"}, False),  # the store was wiped
        ({"revision": 5}, False),
        ({"revision": 6, "time_ms": 1}, False),
    ],
)
def test_a_plan_that_was_in_force_before_is_told_from_a_new_beginning(changes: dict[str, int], expected: bool) -> None:
    """B23: an old plan has a valid signature as well."""
    followed = msgspec.structs.replace(build_plan(1, revision=5), time_ms=9)
    assert is_older(msgspec.structs.replace(followed, **changes), followed) is expected
