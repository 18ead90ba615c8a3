"""The recorded result of a run: rounded values, and costs for each item."""

from evals.continual.contender import Traits, Usage
from evals.continual.outcome import run_outcome
from evals.continual.runner import Run


def test_costs_are_for_one_item_and_idle_time_is_separate() -> None:
    run = Run(
        matrix=((90.0,), (80.0, 70.0)),
        row_before_idle=(60.0, 70.0),
        usage=Usage(samples=5, num_bytes=50, gradients=30, forwards=10),
        num_items=20,
        seconds=0.5,
    )
    traits = Traits(precision="int8", encoder="frozen")
    made = run_outcome(run, traits, data="d", split="test", strategy="s", seed=3, commit="c")
    assert (made.final_accuracy, made.final_accuracy_before_idle) == (75.0, 65.0)
    assert (made.forgetting, made.forgetting_before_idle) == (10.0, 30.0)
    assert (made.gradients_per_item, made.forwards_per_item, made.ms_per_label) == (1.5, 0.5, 25.0)
    assert (made.buffer_samples, made.encoder) == (5, "frozen")
