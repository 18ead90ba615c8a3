"""Shows the figures and tables of the page in a terminal (`lifelong status`), drawn by rich."""

import time
from typing import Final

import msgspec
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rollout.operator import Operator
from services.page.state import PageFigure, PageState, StateReader
from services.page.tables import Cell, Kind, PageTable
from wire.logs import printable
from wire.timestamps import now_ms

INTERVAL_S: Final = 1.0

ROWS: Final = 8
"""Number of rows of a table that are drawn; the page shows more."""

MAX_CHARS: Final = 70


def show(operator: Operator, *, keeps_watching: bool = False, as_json: bool = False) -> None:
    """Draws the state of the service: once, after counting answers for a second, or repeatedly until Control-C."""
    reader = StateReader(operator, now_ms=now_ms)
    if keeps_watching and not as_json:
        watch(reader, Console())
        return
    reader.read()
    time.sleep(INTERVAL_S)
    state = reader.read()
    if as_json:
        print(printable(msgspec.json.format(msgspec.json.encode(state)).decode(), keep="\n"))
    else:
        # A line that is longer than the terminal's width is not cut: it may be an alarm, or be searched for.
        Console().print(render_state(state), soft_wrap=True)


def watch(reader: StateReader, console: Console) -> None:
    """Draws the state once a second, until Control-C."""
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                live.update(render_state(reader.read_or_problem()), refresh=True)
                time.sleep(INTERVAL_S)
        except KeyboardInterrupt:
            return


def render_state(state: PageState) -> Group:
    """Returns the drawing of a state. All tables without rows share one line."""
    if state.problem:
        return Group(Text(state.title, style="bold"), Text(state.problem, style="red"))
    parts: list[RenderableType] = [Text(state.title + (", paused" if state.is_paused else ""), style="bold")]
    parts.append(Columns([_figure(figure) for figure in state.figures], padding=(0, 3)))
    parts += [_render_table(name, table) for name, table in state.tables.items() if table.rows]
    empty = [f"{table.title}: {table.empty}" for table in state.tables.values() if not table.rows]
    if empty:
        parts.append(Text("; ".join(empty), style="dim"))
    return Group(*parts)


def shown(value: Cell, kind: Kind) -> str:
    """Returns the text of a table cell.

    >>> [shown(0.875, "percent"), shown(1234.5, "ms"), shown(7.0, "ms"), shown(None, "rate"), shown(12, "count")]
    ['87.5 %', '1.23 s', '7 ms', '-', '12']
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return printable(value if len(value) <= MAX_CHARS else f"{value[: MAX_CHARS - 1]}.")
    match kind:
        case "percent":
            return f"{value:.1%}".replace("%", " %")
        case "ms":
            return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.3g} ms"
        case "time":
            return time.strftime("%H:%M:%S", time.localtime(value / 1000))
        case "rate":
            return f"{value:.2f}" if value < 10 else f"{value:.0f}"
        case _:
            return f"{value:,}"


def _figure(figure: PageFigure) -> Text:
    return Text.assemble((f"{figure.name} ", "dim"), shown(figure.value, figure.kind))


def _render_table(name: str, table: PageTable) -> RenderableType:
    """Returns the drawing of a table. Alarms and other tables of two texts become lines, which are never cut."""
    if [column.kind for column in table.columns] != ["text", "text"]:
        return _render_grid(table)
    lines = [": ".join(printable(str(cell)) for cell in row) for row in table.rows]
    if name == "alarms":
        return Text("\n".join(f"ALARM: {line}" for line in lines), style="red")
    return Text("\n".join([table.title, *(f"  {line}" for line in lines)]))


def _render_grid(given: PageTable) -> Table:
    table = Table(title=given.title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in given.columns:
        table.add_column(column.name, justify="left" if column.kind in ("text", "time") else "right")
    for row in given.rows[:ROWS]:
        kinds = (column.kind for column in given.columns)
        table.add_row(*(Text(shown(cell, kind)) for cell, kind in zip(row, kinds, strict=True)))
    return table
