"""Measures row E12: the precision chosen for each batch, beside fixed ones."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E12",
    title="adaptive precision",
    claim="The article chooses the precision by the length of a text.",
    how="x",
    bars=(
        Bar(
            name="goodput",
            unit="answers in time/s",
            goal=Goal(">=", 1.1, of_peer=True),
            baseline="the best fixed precision on the same arrivals",
        ),
        Bar(
            name="accuracy_lost",
            unit="points",
            goal=Goal("<=", 0.3),
            baseline="INT8 for every batch",
        ),
    ),
    measure=not_here,
)
