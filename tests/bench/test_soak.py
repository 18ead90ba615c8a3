"""Checks the fit of slopes, and when a slope counts as zero; `make bench ONLY=soak` samples a service."""

import random
from collections.abc import Callable

import pytest

from bench.soak import BATCHES, RESOURCES, SoakSize, fit_slope, rows
from evals.results.row import NoResult

NUM = 600


def samples(memory: Callable[[float], float]) -> list[tuple[float, dict[str, float]]]:
    """Makes samples of an hour, with memory by a function of the time and constant other resources."""
    steady = {resource.name: 1.0 for resource in RESOURCES}
    return [(at * 6.0, steady | {"memory": memory(at / NUM)}) for at in range(NUM + 1)]


def met(memory: Callable[[float], float]) -> dict[str, bool | None]:
    return {row.name.removeprefix("soak."): row.met for row in rows(samples(memory))}


def test_constant_resources_meet_every_goal() -> None:
    assert set(met(lambda hours: 500.0).values()) == {True}


def test_noise_and_a_sawtooth_are_no_growth() -> None:
    rng = random.Random(1)
    assert met(lambda hours: 500.0 + rng.gauss(0.0, 20.0))["memory_slope"]
    assert met(lambda hours: 500.0 + 100.0 * (hours * 37 % 1))["memory_slope"]


def test_a_leak_is_found_in_noise() -> None:
    rng = random.Random(1)
    found = met(lambda hours: 500.0 + 60.0 * hours + rng.gauss(0.0, 20.0))
    assert [name for name, is_met in found.items() if not is_met] == ["memory_slope"]


def test_growth_before_the_warm_up_is_over_does_not_count() -> None:
    assert met(lambda hours: 500.0 + 3_000.0 * min(hours, 0.3))["memory_slope"]


def test_a_budget_counts_however_steady_it_is() -> None:
    found = met(lambda hours: 1e6)
    assert [name for name, is_met in found.items() if not is_met] == ["memory"]


def test_a_shrinking_resource_meets_its_goal() -> None:
    assert met(lambda hours: 900.0 - 100.0 * hours)["memory_slope"]


def test_too_few_samples_have_no_slope() -> None:
    with pytest.raises(NoResult, match="too few"):
        fit_slope([(0.0, 1.0)] * (2 * BATCHES - 1))


def test_hours_take_the_place_of_minutes() -> None:
    assert SoakSize().seconds == 1_800
    assert SoakSize(hours=24).seconds == 86_400
    assert SoakSize(minutes=5).seconds == 300
