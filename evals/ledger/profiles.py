"""Measures row E11: what the profiles promise, at the scale of the demo."""

from evals.ledger.experiment import Bar, Experiment, not_here
from evals.results.row import Goal

EXPERIMENT = Experiment(
    id="E11",
    title="profiles",
    claim="The article promises: base answers within 150 ms and is right on 88 %, pro reads 500 documents a minute, "
    "nano answers 30 requests a second in half a byte a parameter.",
    how="Each promise at demo scale; the arithmetic at 3, 7 and 13 billion parameters is `lifelong profile --explain`.",
    bars=(
        Bar(
            name="base_p99",
            unit="ms, INT4, at load",
            goal=Goal("<=", 150),
            baseline="the promise",
        ),
        Bar(
            name="base_accuracy",
            unit="% on CLINC150, INT4",
            goal=Goal(">=", 88),
            baseline="the promise",
        ),
        Bar(
            name="pro_rate",
            unit="documents of 512 tokens a minute",
            goal=Goal(">=", 500),
            baseline="the promise",
        ),
        Bar(
            name="nano_rate",
            unit="requests/s on one core",
            goal=Goal(">=", 30),
            baseline="the promise",
        ),
        Bar(
            name="nano_bytes",
            unit="MB of stored weights",
            goal=Goal("<=", 11.3),
            baseline="half a byte for each parameter that it replaces",
        ),
        Bar(
            name="nano_retained",
            unit="% of the dense model's accuracy",
            goal=Goal(">=", 97),
            baseline="the dense model",
        ),
        Bar(
            name="change_lost",
            unit="events lost or mixed while the profile changes under load",
            goal=Goal("<=", 0),
            baseline="none",
        ),
    ),
    measure=not_here,
)
