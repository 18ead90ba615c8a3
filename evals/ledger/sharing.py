"""Measures row E2: parameters shared between tasks, head groups and layers."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E2",
    title="shared parameters",
    claim="The article promises 58 % fewer parameters at 92 % of the quality.",
    how="CLINC150, SNIPS, TREC-6 and SST-2 by one model with a trunk and key-value groups, "
    "and by one whose layers share banks.",
    bars=(
        Bar(
            name="retained_trunk",
            unit="% of the separate models' mean accuracy",
            goal=Goal(">=", 97),
            baseline="a model for each task",
        ),
        Bar(
            name="stored_trunk",
            unit="% of the parameters of the separate models",
            goal=Goal("<=", 42),
            quick=Goal("<=", 42),
            baseline="a model for each task, counted",
        ),
        Bar(
            name="retained_tied",
            unit="% of the dense model's accuracy",
            goal=Goal(">=", 97),
            baseline="the dense model",
        ),
        Bar(
            name="stored_tied",
            unit="% of the parameters of the dense model",
            goal=Goal("<=", 42),
            quick=Goal("<=", 42),
            baseline="the dense model, counted",
        ),
        Bar(
            name="cost_of_a_task",
            unit="of the time of one task, for each further task",
            goal=Goal("<=", 0.4),
            baseline="one task alone",
        ),
    ),
    measure=not_here,
)
