"""Checks the tiers; `test_register.py` runs the row."""

from evals.ledger.layered_tuning import EXPERIMENT, FULL_RATE
from learner.config import LearnerConfig


def test_each_bar_has_a_baseline_and_the_rates_are_apart() -> None:
    assert all(bar.baseline for bar in EXPERIMENT.bars)
    assert LearnerConfig().slow_rate > FULL_RATE
