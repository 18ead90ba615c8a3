"""The table of results: a row for each strategy, with mean and standard deviation over its seeds.

Strategies that train the encoder stand apart from heads on the frozen one. Beside each accuracy stands what it took:
the memory, the sample gradients and the forward passes for each training item.
"""

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from evals.continual.outcome import RunOutcome, spread

WIDTH = 120
"""The columns that the table may take, even where a terminal has fewer: numbers must not be cut."""

COLUMNS = (
    "final %",
    "forgetting",
    "before idle",
    "memory",
    "KiB",
    "gradients",
    "forwards",
    "names",
    "ms a label",
)
HEADINGS = {"trained": "encoder trained", "frozen": "encoder frozen", "none": "no encoder"}


def of(outcomes: Sequence[RunOutcome]) -> Table:
    """Returns the table, with the strategies in the order in which they ran."""
    first = outcomes[0]
    seeds = len({each.seed for each in outcomes})
    title = f"{first.data}, {first.split}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    shown.add_column("strategy", no_wrap=True)
    for column in COLUMNS:
        shown.add_column(column, justify="right")
    for encoder, heading in HEADINGS.items():
        group = [each for each in outcomes if each.encoder == encoder]
        if group:
            shown.add_section()
            shown.add_row(heading, style="italic")
        for name in dict.fromkeys(each.strategy for each in group):
            shown.add_row(name, *_cells([each for each in group if each.strategy == name]))
    return shown


def _cells(runs: Sequence[RunOutcome]) -> tuple[str, ...]:
    def cell(value: Callable[[RunOutcome], float], digits: int = 2) -> str:
        mean, deviation = spread([value(each) for each in runs])
        return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if len(runs) > 1 else f"{mean:.{digits}f}"

    last = runs[-1]
    return (
        cell(lambda each: each.final_accuracy),
        cell(lambda each: each.forgetting),
        cell(lambda each: each.forgetting_before_idle),
        f"{last.buffer_samples:,}",
        f"{last.buffer_bytes / 1024:,.0f}",
        f"{last.gradients_per_item:.2f}",
        f"{last.forwards_per_item:.2f}",
        "yes" if last.uses_names else "no",
        cell(lambda each: each.ms_per_label, 3),
    )
