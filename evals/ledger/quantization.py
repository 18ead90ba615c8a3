"""Measures row E7: progressive quantization-aware training to INT4."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E7",
    title="quantization-aware training",
    claim="The article promises an eighth of the size at a loss of 1.2 points, where rounding afterwards loses 3.7.",
    how="MiniLM on CLINC150: full precision, INT8, then INT4 in groups of 64.",
    bars=(
        Bar(
            name="size",
            unit="times smaller than float32, embeddings included",
            goal=Goal(">=", 7.3),
            quick=Goal(">=", 7.3),
            baseline="the float32 weights, counted",
        ),
        Bar(
            name="loss",
            unit="points of accuracy",
            goal=Goal("<=", 1.2),
            baseline="the encoder in full precision",
        ),
        Bar(
            name="loss_of_rounding",
            unit="points of accuracy, rounded to nearest INT4",
            goal=Goal(">=", 3.7),
            baseline="the encoder in full precision",
        ),
        Bar(
            name="progressive",
            unit="points of accuracy over direct INT4 training with as many steps",
            goal=Goal(">=", 0),
            baseline="INT4 from the first step on",
        ),
    ),
    measure=not_here,
)
