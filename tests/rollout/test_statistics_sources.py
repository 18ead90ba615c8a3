"""Each source counts with its mean, once."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.statistics import PairedTally, log_e_value_above, log_e_value_of_means


def test_one_label_a_source_is_the_paired_test() -> None:
    tally = PairedTally(wins=5, ties=3, losses=2)
    means = [1.0] * 5 + [0.0] * 3 + [-1.0] * 2
    assert log_e_value_of_means(means, -0.02) == pytest.approx(log_e_value_above(tally, -0.02))


def test_over_all_means_of_two_labels_the_mean_e_value_is_1() -> None:
    """Each of three sources has two labels, each a win or a loss with a chance of a half."""
    total = 0.0
    for means in itertools.product([1.0, 0.0, 0.0, -1.0], repeat=3):
        total += math.exp(log_e_value_of_means(means, 0.0)) / 4**3
    assert total == pytest.approx(1.0, abs=1e-12)


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-1, 1))
def test_one_source_at_most_doubles_it(means: list[float], more: float) -> None:
    growth = log_e_value_of_means([*means, more], -0.02) - log_e_value_of_means(means, -0.02)
    assert math.log(0.099) <= growth <= math.log(2.0)
