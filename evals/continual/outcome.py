"""Defines the recorded result of one run: the measures of a strategy with one seed."""

from collections.abc import Sequence

import msgspec

from evals.continual.contender import Traits
from evals.continual.measures import Row, backward_transfer, final_accuracy, forgetting
from evals.continual.runner import Run


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded measures of one run of a strategy. Accuracies, forgetting and transfer are in percent.

    `accuracy_matrix` has a row for each stage.

    The fields that end in `before_idle` were measured right after the last item, before the work for idle times.
    Gradients and forward passes are counted for each training item (`evals.continual.contender.Usage`).
    """

    data: str
    split: str
    strategy: str
    seed: int
    final_accuracy: float
    final_accuracy_before_idle: float
    forgetting: float
    forgetting_before_idle: float
    backward_transfer: float
    accuracy_matrix: tuple[Row, ...]
    encoder: str
    precision: str
    uses_names: bool
    buffer_samples: int
    buffer_bytes: int
    gradients_per_item: float
    forwards_per_item: float
    ms_per_label: float
    commit: str


def run_outcome(
    run: Run, traits: Traits, *, data: str, split: str, strategy: str, seed: int, commit: str
) -> RunOutcome:
    """Returns the measures of a run as they are recorded."""
    before_idle = (*run.matrix[:-1], run.row_before_idle)
    return RunOutcome(
        data=data,
        split=split,
        strategy=strategy,
        seed=seed,
        final_accuracy=round(final_accuracy(run.matrix), 3),
        final_accuracy_before_idle=round(final_accuracy(before_idle), 3),
        forgetting=round(forgetting(run.matrix), 3),
        forgetting_before_idle=round(forgetting(before_idle), 3),
        backward_transfer=round(backward_transfer(run.matrix), 3),
        accuracy_matrix=tuple(map(_rounded, run.matrix)),
        encoder=traits.encoder,
        precision=traits.precision,
        uses_names=traits.uses_names,
        buffer_samples=run.usage.samples,
        buffer_bytes=run.usage.num_bytes,
        gradients_per_item=round(run.usage.gradients / run.num_items, 3),
        forwards_per_item=round(run.usage.forwards / run.num_items, 3),
        ms_per_label=round(1e3 * run.seconds / run.num_items, 4),
        commit=commit,
    )


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Computes the mean and the sample standard deviation (n - 1), which is 0 for one value.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def _rounded(row: Row) -> Row:
    return tuple(round(accuracy, 3) for accuracy in row)
