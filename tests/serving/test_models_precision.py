"""The choice of a precision: never below the floor, never slower under more load, no flapping."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import PrecisionConfig
from serving.models import (
    NO_CHOICE,
    NOT_MEASURED,
    LatencyTable,
    PrecisionChoice,
    Version,
    accurate_enough,
    choose_precisions,
    is_overloaded,
    pick_precision,
)
from tests.serving.versions import make_model
from wire.records import PrecisionEvaluation

AUTO = PrecisionConfig()
SIZES = (16, 64, 256)
KEY = ("", 1)
"""The only version of the default task."""

accuracies = st.floats(0, 1)
loads = st.floats(0, 1)
times = st.lists(st.floats(0.01, 100), min_size=len(SIZES), max_size=len(SIZES)).map(tuple)
names = st.sampled_from(["int8", "int4"])


def make_version(*accuracy: float, latency: LatencyTable = NOT_MEASURED, number: int = 1) -> Version:
    """Returns a version measured in INT8 and, where a second accuracy is passed, in INT4."""
    precisions = tuple(
        PrecisionEvaluation(name=name, accuracy=each) for name, each in zip(("int8", "int4"), accuracy, strict=False)
    )
    return Version(number=number, model=make_model(number), precisions=precisions, num_bytes=1, latency=latency)


def table(int8_ms: Sequence[float], int4_ms: Sequence[float]) -> LatencyTable:
    return LatencyTable(SIZES, {"int8": tuple(int8_ms), "int4": tuple(int4_ms)})


FAST_INT4 = table((2, 8, 32), (1, 4, 16))

latencies = st.builds(table, times, times)
versions = st.builds(
    lambda best, other, latency: make_version(best, other, latency=latency), accuracies, accuracies, latencies
)
previous_choices = st.builds(
    lambda name, is_brown_out: PrecisionChoice({KEY: name}, is_brown_out), names, st.booleans()
)
configs = st.builds(
    lambda mode, losses, gain, limit: PrecisionConfig(
        mode=mode,
        max_accuracy_loss=min(losses),
        brown_out_accuracy_loss=max(losses),
        min_gain=gain,
        brown_out_load=limit,
    ),
    st.sampled_from(["auto", "int8", "int4"]),
    st.tuples(accuracies, accuracies),
    st.floats(0, 1),
    st.floats(0.01, 1),
)


def chosen(
    version: Version, *, load: float = 0, previous: PrecisionChoice = NO_CHOICE, config: PrecisionConfig = AUTO
) -> str:
    return choose_precisions({KEY: version}, num_tokens=16, load=load, previous=previous, config=config).by_version[KEY]


@given(versions, st.integers(1, 1_000), loads, previous_choices, configs)
def test_no_precision_is_below_the_floor_in_force(
    version: Version, num_tokens: int, load: float, previous: PrecisionChoice, config: PrecisionConfig
) -> None:
    choice = choose_precisions({KEY: version}, num_tokens=num_tokens, load=load, previous=previous, config=config)
    accuracy = {each.name: each.accuracy for each in version.precisions}
    floor = config.brown_out_accuracy_loss if choice.is_brown_out else config.max_accuracy_loss
    assert accuracy[choice.by_version[KEY]] >= accuracy["int8"] - floor


@given(versions, st.integers(1, 1_000), st.tuples(loads, loads), previous_choices, configs)
def test_more_load_never_makes_a_batch_slower(
    version: Version, num_tokens: int, pair: tuple[float, float], previous: PrecisionChoice, config: PrecisionConfig
) -> None:
    choices = [
        choose_precisions({KEY: version}, num_tokens=num_tokens, load=load, previous=previous, config=config)
        for load in sorted(pair)
    ]
    calm_ms, busy_ms = (version.latency.batch_ms(choice.by_version[KEY], num_tokens) for choice in choices)
    assert busy_ms <= calm_ms
    assert choices[0].is_brown_out <= choices[1].is_brown_out


@given(versions, st.integers(1, 1_000), loads, previous_choices, configs)
def test_under_the_same_conditions_a_choice_stays(
    version: Version, num_tokens: int, load: float, previous: PrecisionChoice, config: PrecisionConfig
) -> None:
    first = choose_precisions({KEY: version}, num_tokens=num_tokens, load=load, previous=previous, config=config)
    again = choose_precisions({KEY: version}, num_tokens=num_tokens, load=load, previous=first, config=config)
    assert again == first


@given(st.lists(st.floats(0.051, 0.099), min_size=1), names)
def test_gains_between_half_the_margin_and_the_margin_change_nothing(gains: list[float], name: str) -> None:
    current = name
    for gain in gains:
        latency = table((1, 1, 1), (1 - gain,) * 3)
        current = pick_precision(("int8", "int4"), latency, 16, min_gain=0.1, current=current)
        assert current == name


@given(st.lists(st.floats(0.251, 0.5), min_size=1), st.booleans())
def test_loads_between_half_the_limit_and_the_limit_change_nothing(loads: list[float], was_overloaded: bool) -> None:
    for load in loads:
        assert is_overloaded(load, was_overloaded=was_overloaded, limit=0.5) == was_overloaded


@pytest.mark.parametrize(
    ("int4", "load", "mode", "expected"),
    [
        (0.896, 0.0, "auto", "int4"),
        (0.88, 0.0, "auto", "int8"),
        (0.88, 0.6, "auto", "int4"),
        (0.8, 0.6, "auto", "int8"),
        (0.896, 0.6, "int8", "int8"),
        (0.896, 0.0, "int4", "int4"),
        (0.88, 0.6, "int4", "int8"),
    ],
)
def test_floor_load_and_mode_decide(
    int4: float, load: float, mode: Literal["auto", "int8", "int4"], expected: str
) -> None:
    config = replace(AUTO, mode=mode)
    assert chosen(make_version(0.9, int4, latency=FAST_INT4), load=load, config=config) == expected


def test_a_small_gain_is_not_worth_less_accuracy_unless_overloaded() -> None:
    version = make_version(0.9, 0.896, latency=table((1, 1, 1), (0.95, 0.95, 0.95)))
    assert [chosen(version, load=load) for load in (0.0, 0.6)] == ["int8", "int4"]


def test_a_brown_out_does_not_choose_what_is_slower() -> None:
    assert chosen(make_version(0.9, 0.896, latency=table((1, 1, 1), (2, 2, 2))), load=1.0) == "int8"


def test_without_latencies_the_best_answers() -> None:
    assert chosen(make_version(0.9, 0.9), load=1.0) == "int8"


def test_what_was_not_measured_is_not_within_a_floor() -> None:
    assert accurate_enough(make_version(0.0, 0.0).precisions, 1.0) == ("int8",)


def test_without_a_choice_there_is_no_brown_out() -> None:
    choice = choose_precisions({KEY: make_version(0.9)}, num_tokens=16, load=1.0, previous=NO_CHOICE, config=AUTO)
    assert choice == PrecisionChoice({KEY: "int8"})


def test_each_version_has_its_own_floor() -> None:
    both = {
        KEY: make_version(0.9, 0.9, latency=FAST_INT4),
        ("urgency", 1): make_version(0.9, 0.5, latency=FAST_INT4),
    }
    choice = choose_precisions(both, num_tokens=16, load=0.6, previous=NO_CHOICE, config=AUTO)
    assert choice == PrecisionChoice({KEY: "int4", ("urgency", 1): "int8"}, True)
