"""Measures row E4: tuning by tiers, with kept activations below the trained blocks."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E4",
    title="instruction-layered tuning",
    claim="The article claims tuning by layers instead of full tuning.",
    how="x",
    bars=(
        Bar(
            name="retained",
            unit="% of the accuracy of full tuning",
            goal=Goal(">=", 99),
            baseline="all weights tuned, equal steps; the frozen encoder beside it",
        ),
        Bar(
            name="trainable",
            unit="% of the parameters",
            goal=Goal("<=", 15),
            quick=Goal("<=", 15),
            baseline="all parameters of the encoder, counted",
        ),
        Bar(
            name="step_speed",
            unit="steps/s",
            goal=Goal(">=", 3, of_peer=True),
            baseline="a step of full tuning on the same batches, one thread",
        ),
    ),
    measure=not_here,
)
