"""Defines one line of the results: the measures of a strategy with one seed."""

from collections.abc import Sequence

import msgspec

from evals.continual.measures import Row, backward_transfer, final_accuracy, forgetting
from evals.continual.runner import Run


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of one run. Accuracies, forgetting and transfer are in percent; the matrix has a row a stage."""

    data: str
    strategy: str
    seed: int
    final_accuracy: float
    forgetting: float
    backward_transfer: float
    accuracy_matrix: tuple[Row, ...]
    ms_per_label: float
    buffer_bytes: int
    precision: str
    commit: str


def outcome(run: Run, *, data: str, strategy: str, seed: int, precision: str, commit: str) -> RunOutcome:
    """Makes the result record of a run."""
    return RunOutcome(
        data=data,
        strategy=strategy,
        seed=seed,
        final_accuracy=round(final_accuracy(run.matrix), 3),
        forgetting=round(forgetting(run.matrix), 3),
        backward_transfer=round(backward_transfer(run.matrix), 3),
        accuracy_matrix=tuple(map(_rounded, run.matrix)),
        ms_per_label=round(run.ms_per_label, 4),
        buffer_bytes=run.buffer_bytes,
        precision=precision,
        commit=commit,
    )


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Computes the mean and the standard deviation (n - 1); the latter is 0 for one value.

    >>> spread([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def _rounded(row: Row) -> Row:
    return tuple(round(accuracy, 3) for accuracy in row)
