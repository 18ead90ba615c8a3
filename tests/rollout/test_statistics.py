"""The e-value of betting, against its definition, and what makes it valid: it is a martingale."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.statistics import BET_WEIGHTS, BETS, log_e

COUNTS = st.tuples(*[st.integers(0, 400)] * 3)
SHARES = st.tuples(*[st.floats(0.01, 1.0)] * 3)
VALUES = np.array([2.0, 1.0, 0.0])


def test_half_of_the_weight_is_on_the_bet_that_is_aimed_at_5_points() -> None:
    assert BET_WEIGHTS.sum() == 1.0
    assert BET_WEIGHTS[BETS == 0.3] == 0.5


def test_it_is_the_mean_wealth_of_the_gamblers() -> None:
    observations = [2.0, 0.0, 1.0, 2.0, 2.0, 0.0]
    mean = 0.97
    wealth = 0.0
    for bet, weight in zip(BETS, BET_WEIGHTS, strict=True):
        wealth += weight * math.prod(1 - bet + bet * each / mean for each in observations)
    assert log_e([3, 1, 2], VALUES / mean) == pytest.approx(math.log(wealth))


@given(COUNTS, SHARES)
def test_an_observation_multiplies_it_by_1_on_average_where_the_hypothesis_holds(
    counts: tuple[int, int, int], shares: tuple[float, float, float]
) -> None:
    """It is a martingale where the mean is the hypothesis's, so it may be looked at after every observation."""
    chances = np.array(shares) / sum(shares)
    payoffs = VALUES / (chances @ VALUES)
    next_counts = np.array(counts) + np.eye(3, dtype=int)
    growth = np.exp(log_e(next_counts, payoffs) - log_e(counts, payoffs))
    assert chances @ growth == pytest.approx(1.0)


@given(COUNTS, SHARES, st.floats(0.0, 0.5))
def test_it_falls_on_average_where_the_mean_is_lower_than_the_hypothesis_allows(
    counts: tuple[int, int, int], shares: tuple[float, float, float], excess: float
) -> None:
    chances = np.array(shares) / sum(shares)
    payoffs = VALUES / (chances @ VALUES + excess)
    next_counts = np.array(counts) + np.eye(3, dtype=int)
    growth = np.exp(log_e(next_counts, payoffs) - log_e(counts, payoffs))
    assert chances @ growth <= 1.0 + 1e-9


def test_many_tests_are_computed_at_once() -> None:
    counts = [[3, 1, 2], [0, 0, 0], [40, 900, 60]]
    assert log_e(counts, VALUES).tolist() == pytest.approx([float(log_e(each, VALUES)) for each in counts])
