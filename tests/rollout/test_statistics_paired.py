"""The paired comparison: its counts, and the e-values and the interval that follow from them."""

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.statistics import (
    NO_LABELS,
    PairedTally,
    log_e,
    log_e_value_above,
    log_e_value_below,
    payoffs,
)

DIFFERENCES = st.lists(st.sampled_from([1, 0, -1]), max_size=60)
TALLIES = st.builds(PairedTally, st.integers(0, 300), st.integers(0, 3_000), st.integers(0, 300))
MEANS = st.floats(-0.9, 0.9)


def test_counts_who_was_right() -> None:
    tally = PairedTally.from_differences([1, 0, -1, 0, 0, 1])
    assert tally == PairedTally(wins=2, ties=3, losses=1)
    assert tally.labels == 6
    assert str(tally) == "2 won, 3 tied, 1 lost"
    assert PairedTally.from_differences([True - False, True - True, False - True]) == PairedTally(1, 1, 1)


@given(DIFFERENCES, st.integers(0, 9))
def test_neither_order_nor_batches_change_it(differences: list[int], seed: int) -> None:
    shuffled = Random(seed).sample(differences, len(differences))
    middle = len(differences) // 2
    merged = PairedTally.from_differences(differences[:middle]) + PairedTally.from_differences(differences[middle:])
    assert merged == PairedTally.from_differences(shuffled)
    assert log_e_value_above(merged, 0.0) == log_e_value_above(PairedTally.from_differences(shuffled), 0.0)


@given(TALLIES, TALLIES)
def test_what_was_added_is_taken_out_again(one: PairedTally, other: PairedTally) -> None:
    assert one + other - other == one
    assert one - NO_LABELS == one


@pytest.mark.parametrize("mean", [0.0, -0.02, 0.3])
def test_over_all_sequences_of_six_labels_the_mean_e_value_is_1(mean: float) -> None:
    """Win, tie and loss have chances whose mean difference is the hypothesis's, so E's expectation is 1 exactly."""
    win = 0.35
    chances = {1: win, 0: 1 - 2 * win + mean, -1: win - mean}
    total = 0.0
    for sequence in itertools.product(chances, repeat=6):
        chance = math.prod(chances[difference] for difference in sequence)
        total += chance * math.exp(log_e_value_above(PairedTally.from_differences(sequence), mean))
    assert total == pytest.approx(1.0, abs=1e-12)


@given(TALLIES, MEANS)
def test_a_better_label_never_speaks_for_the_old_version(tally: PairedTally, mean: float) -> None:
    lost = tally + PairedTally(losses=1)
    tied = tally + PairedTally(ties=1)
    won = tally + PairedTally(wins=1)
    above = [log_e_value_above(each, mean) for each in (lost, tied, won)]
    below = [log_e_value_below(each, mean) for each in (won, tied, lost)]
    assert above == sorted(above)
    assert below == sorted(below)


@given(TALLIES, MEANS, MEANS)
def test_the_evidence_for_a_mean_above_falls_as_the_bound_rises(tally: PairedTally, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert log_e_value_above(tally, low) >= log_e_value_above(tally, high) - 1e-9


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 5_000))
def test_ties_cancel_out_of_the_sign_test(wins: int, losses: int, ties: int) -> None:
    assert log_e_value_above(PairedTally(wins, ties, losses), 0.0) == log_e_value_above(
        PairedTally(wins, 0, losses), 0.0
    )


def test_the_true_mean_is_rejected_in_few_runs() -> None:
    """The mean 0.1 is rejected at any of the first 400 labels in at most 5 % of 10,000 runs."""
    rng = np.random.default_rng(1)
    is_rejected = np.zeros(10_000, dtype=bool)
    counts = np.zeros((10_000, 3), dtype=np.int64)
    for _ in range(400):
        counts += rng.multinomial(1, [0.2, 0.7, 0.1], size=10_000)
        is_rejected |= log_e(counts, payoffs(0.1)) >= math.log(2 / 0.05)
        is_rejected |= log_e(counts[:, ::-1], payoffs(-0.1)) >= math.log(2 / 0.05)
    assert 0.01 <= is_rejected.mean() <= 0.05
