"""Checks the tiers; `test_run_register.py` runs the row."""

from bench.techniques.layered_tuning import EXPERIMENT, TIERED
from learner.config import LearnerConfig


def test_each_bar_has_a_baseline() -> None:
    assert all(bar.baseline for bar in EXPERIMENT.bars)


def test_each_tier_of_a_learner_has_a_bar_and_is_deeper_than_the_one_above() -> None:
    task, domain, base = TIERED.tiers
    assert LearnerConfig().deepest_layers == task < domain < base
    assert [bar.name for bar in EXPERIMENT.bars][-3:] == ["task_tier", "domain_tier", "base_tier"]
