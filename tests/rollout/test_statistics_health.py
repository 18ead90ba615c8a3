"""The tests of errors and latency, with their rates when they are asked after every answer."""

import itertools
import math
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from rollout.statistics import TOLERATED_ERROR_RATE, log_e_value_errors, log_e_value_slow
from wire.records import TOLERATED_SLOWDOWN

Floats: TypeAlias = NDArray[np.float64]

RUNS = 10_000
THRESHOLD = math.log(1_000)
MAX_ERRORS = 40


def withdrawn_at(error_rate: float, threshold: float = THRESHOLD) -> Floats:
    """Returns the number of answers at which each run reaches the threshold; inf where none of its errors does."""
    latest = []  # for each number of errors, the most answers among which it still is enough
    for errors in range(1, MAX_ERRORS + 1):
        answers = next(n for n in itertools.count(errors) if log_e_value_errors(errors, n) < threshold)
        latest.append(answers - 1)
    rng = np.random.default_rng(1)
    error_at = rng.geometric(error_rate, size=(RUNS, MAX_ERRORS)).cumsum(axis=1)
    is_enough = error_at <= np.array(latest)
    return np.asarray(np.where(is_enough, error_at, np.inf).min(axis=1))


def test_over_all_sequences_of_errors_the_mean_e_value_is_1() -> None:
    total = 0.0
    for sequence in itertools.product([0, 1], repeat=8):
        errors = sum(sequence)
        chance = TOLERATED_ERROR_RATE**errors * (1 - TOLERATED_ERROR_RATE) ** (8 - errors)
        total += chance * math.exp(log_e_value_errors(errors, 8))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_a_version_that_fails_in_1_percent_of_its_answers_is_withdrawn() -> None:
    answers = withdrawn_at(0.01)
    assert np.median(answers) <= 350
    assert np.quantile(answers, 0.95) <= 1_000


@pytest.mark.parametrize(("error_rate", "most"), [(0.05, 160), (0.5, 12), (1.0, 3)])
def test_a_version_that_fails_often_is_withdrawn_at_once(error_rate: float, most: int) -> None:
    assert np.quantile(withdrawn_at(error_rate), 0.95) <= most


def test_a_version_that_fails_as_seldom_as_is_tolerated_stays() -> None:
    assert np.isfinite(withdrawn_at(TOLERATED_ERROR_RATE)).mean() <= 0.001


def slow_at(factor: float, answers: int, spread: float = 0.5) -> Floats:
    """Returns the number of answers at which each run of a version `factor` times as slow reaches the threshold.

    Latencies are lognormal; `spread` is the deviation of their logarithm.
    """
    least = []  # for each number of answers, how many slow ones are enough
    for num_answers in range(1, answers + 1):
        enough = (slow for slow in range(num_answers + 1) if log_e_value_slow(slow, num_answers) >= THRESHOLD)
        least.append(next(enough, answers + 1))
    rng = np.random.default_rng(1)
    latency = factor * rng.lognormal(sigma=spread, size=(RUNS, answers))  # in medians of the stable version
    num_slow = (latency > TOLERATED_SLOWDOWN).cumsum(axis=1)
    is_enough = num_slow >= np.array(least)
    return np.where(is_enough.any(axis=1), is_enough.argmax(axis=1) + 1.0, np.inf)


def test_a_version_with_twice_the_latency_is_withdrawn_within_100_answers() -> None:
    answers = slow_at(2.0, 100)
    assert np.isfinite(answers).mean() >= 0.97
    assert np.median(answers) <= 45


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.2])
def test_a_version_that_is_hardly_slower_stays(factor: float) -> None:
    assert np.isfinite(slow_at(factor, 300)).mean() <= 0.001
