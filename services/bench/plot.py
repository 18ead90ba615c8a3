"""Plots learning curves: the mean accuracy on all stages so far, after each stage, a line for each strategy."""

from collections.abc import Sequence
from pathlib import Path

from evals.continual.outcome import RunOutcome, spread


def draw(outcomes: Sequence[RunOutcome], stages: Sequence[str], path: Path) -> None:
    """Writes the plot, a PNG. A strategy that learnt everything at once is a horizontal line."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name in dict.fromkeys(each.strategy for each in outcomes):
        runs = [each for each in outcomes if each.strategy == name]
        curve = [_spread_after(runs, row) for row in range(_num_rows(runs))]
        means = [mean for mean, _ in curve]
        deviations = [deviation for _, deviation in curve]
        if len(curve) == 1:
            axes.axhline(means[0], linestyle="--", linewidth=1, label=name)
            continue
        axes.errorbar(range(1, len(curve) + 1), means, yerr=deviations, marker=".", capsize=2, label=name)
    axes.set_xticks(range(1, len(stages) + 1), stages, rotation=30, ha="right")
    axes.set_xlabel("stages learnt")
    axes.set_ylabel("mean accuracy of the stages so far, %")
    axes.set_title(outcomes[0].data)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _spread_after(runs: Sequence[RunOutcome], row: int) -> tuple[float, float]:
    """Returns mean and standard deviation over the runs of the accuracy after stage `row`."""
    return spread([_mean(each.accuracy_matrix[row]) for each in runs])


def _num_rows(runs: Sequence[RunOutcome]) -> int:
    return min(len(each.accuracy_matrix) for each in runs)


def _mean(row: Sequence[float]) -> float:
    return sum(row) / len(row)
