"""`lifelong tune`: measures which number of replicas and threads answers fastest here, and stores it."""

from typing import TYPE_CHECKING

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines
from services.progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from services.tune.layout import MeasuredLayout


@reads_settings
def tune(context: CliContext, as_json: JsonOption = False) -> None:
    """Measure replicas x threads on this machine. What wins is used wherever neither is set; takes half a minute."""
    import msgspec
    from rich.console import Console

    from services.cores import num_cores
    from services.tune import table as tune_table
    from services.tune.layout import best, layouts
    from services.tune.measure import measure

    settings = context.process()
    candidates = layouts(num_cores(), max_replicas=settings.bus.partitions)
    with progress() as say:
        table = measure(candidates, encoder=settings.encoder, say=say)
    tune_table.write(table, settings.state_dir)
    winner = best(table)
    assert winner is not None, "at least one layout is tried"
    if as_json:
        result = {"machine": tune_table.machine(), "winner": winner.layout, "table": table}
        echo(*json_lines(msgspec.to_builtins(result)))
        return
    console = Console()
    console.print(_shown(table, winner))
    console.print(f"From now on: {winner.layout} (replicas x threads), unless settings say otherwise.", highlight=False)


def _shown(table: "list[MeasuredLayout]", winner: "MeasuredLayout") -> "Table":
    from rich.table import Table

    shown = Table("replicas", "threads", title="texts a second, by texts of a batch", title_justify="left")
    for texts in winner.texts_per_s:
        shown.add_column(str(texts), justify="right")
    for measured in table:
        layout = measured.layout
        rates = (f"{rate:.0f}" for rate in measured.texts_per_s.values())
        style = "bold" if measured == winner else None
        shown.add_row(str(layout.replicas), str(layout.threads), *rates, style=style)
    return shown
