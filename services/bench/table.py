"""The table of results: a row for each strategy, with mean and standard deviation over its seeds."""

from collections.abc import Callable, Sequence

from rich.table import Table

from evals.continual.outcome import RunOutcome, spread


def of(outcomes: Sequence[RunOutcome]) -> Table:
    """Returns the table, with the strategies in the order in which they ran."""
    seeds = len({each.seed for each in outcomes})
    shown = Table(title=f"{outcomes[0].data}, {seeds} {'seed' if seeds == 1 else 'seeds'}", title_justify="left")
    shown.add_column("strategy")
    for column in ("final %", "forgetting", "backward transfer", "ms a label", "kept KiB", "precision"):
        shown.add_column(column, justify="right")
    for name in dict.fromkeys(each.strategy for each in outcomes):
        shown.add_row(name, *_cells([each for each in outcomes if each.strategy == name]))
    return shown


def _cells(runs: Sequence[RunOutcome]) -> tuple[str, ...]:
    def cell(value: Callable[[RunOutcome], float], digits: int = 2) -> str:
        mean, deviation = spread([value(each) for each in runs])
        return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if len(runs) > 1 else f"{mean:.{digits}f}"

    return (
        cell(lambda each: each.final_accuracy),
        cell(lambda each: each.forgetting),
        cell(lambda each: each.backward_transfer),
        cell(lambda each: each.ms_per_label, 3),
        f"{runs[-1].buffer_bytes / 1024:.0f}",
        runs[-1].precision,
    )
