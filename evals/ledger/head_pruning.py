"""Measures row E13: attention heads removed by importance."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E13",
    title="head pruning",
    claim="The article calls 40 % of the heads safe to remove.",
    how="MiniLM, its 72 heads ranked by importance over tasks.",
    bars=(
        Bar(
            name="loss",
            unit="points of accuracy, 40 % of the heads removed",
            goal=Goal("<=", 1),
            baseline="all heads",
        ),
        Bar(
            name="mask_equals_prune",
            unit="largest difference of masked and pruned outputs",
            goal=Goal("<=", 1e-05),
            quick=Goal("<=", 1e-05),
            baseline="the soft mask",
        ),
    ),
    measure=not_here,
)
