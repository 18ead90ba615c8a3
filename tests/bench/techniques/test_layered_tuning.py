"""Checks the tiers; `tests/bench/harness/test_cases.py` runs the row."""

from bench.techniques.layered_tuning import TECHNIQUE, TIERED
from learner.config import LearnerConfig


def test_each_tier_of_a_learner_has_a_bar_and_is_deeper_than_the_one_above() -> None:
    task, domain, base = TIERED.tiers
    assert LearnerConfig().deepest_layers == task < domain < base
    assert [bar.name for bar in TECHNIQUE.bars][-3:] == ["task_tier", "domain_tier", "base_tier"]
