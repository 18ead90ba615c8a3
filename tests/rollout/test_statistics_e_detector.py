"""The e-detector: no false alarms, and a bad present is noticed after a good past."""

import itertools
import math

import numpy as np
import pytest

from rollout.statistics import (
    DETECTOR_START,
    LABELS_TO_FALSE_ALARM,
    Floats,
    PairedTally,
    advance_detector,
    log_e_value_below,
    log_e_value_change,
)


def after(differences: list[int] | tuple[int, ...]) -> Floats:
    log_wealth = DETECTOR_START
    for difference in differences:
        log_wealth = advance_detector(log_wealth, difference)
    return log_wealth


def test_while_all_are_lost_it_is_the_paired_test() -> None:
    assert float(log_e_value_change(after([-1] * 9))) == pytest.approx(log_e_value_below(PairedTally(losses=9), 0.0))


@pytest.mark.parametrize("num_labels", [1, 3, 6])
def test_over_all_sequences_its_mean_is_at_most_their_length(num_labels: int) -> None:
    """This is what bounds the false alarms: the detector's mean grows by 1 a label at most, where nothing is worse."""
    sequences = list(itertools.product([1, -1], repeat=num_labels))
    mean = sum(math.exp(float(log_e_value_change(after(each)))) for each in sequences) / len(sequences)
    assert 1.0 <= mean <= num_labels


def test_a_false_alarm_takes_as_many_labels_as_the_threshold_on_average() -> None:
    """The threshold is 100; versions that differ on every label need 100 labels or more, 2,000 runs."""
    rng = np.random.default_rng(1)
    log_wealth = np.tile(DETECTOR_START, (2_000, 1))
    alarm_at = np.full(2_000, 3_000)
    for label in range(1, 3_000):
        log_wealth = advance_detector(log_wealth, rng.choice([1, -1], size=2_000))
        is_first = (log_e_value_change(log_wealth) >= math.log(100)) & (alarm_at == 3_000)
        alarm_at[is_first] = label
    assert alarm_at.mean() >= 100


def test_a_version_that_turns_bad_is_noticed_after_a_good_past() -> None:
    """It won 1,000 labels. Then it is 20 points worse and differs on 30 %: noticed after 300 labels at the median, of
    1,000 runs. The paired test would have to outweigh all that was won."""
    rng = np.random.default_rng(1)
    log_wealth = np.tile(after([1] * 1_000), (1_000, 1))
    alarm_at = np.full(1_000, np.inf)
    for label in range(1, 600):
        differences = rng.choice([1, 0, -1], p=[0.05, 0.7, 0.25], size=1_000)
        log_wealth = advance_detector(log_wealth, differences)
        is_first = (log_e_value_change(log_wealth) >= math.log(LABELS_TO_FALSE_ALARM)) & np.isinf(alarm_at)
        alarm_at[is_first] = label
    assert np.median(alarm_at) <= 300
    assert log_e_value_below(PairedTally(wins=1_000 + 25, losses=125), 0.0) < 0.0
