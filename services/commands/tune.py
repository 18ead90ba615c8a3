"""`lifelong tune|profile`: measure the best layout of this machine, and explain profiles.

`tune` measures which number of replicas and threads answers fastest, and stores the result. `profile` shows the
settings that a profile fixes, and its promises.
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines, progress

if TYPE_CHECKING:
    from rich.table import Table

    from services.tune.measure import MeasuredLayout

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="nano, base, pro or static [default: all]")]

ExplainOption = Annotated[bool, typer.Option("--explain", help="Memory and latency at 3, 7 and 13 billion parameters")]


@reads_settings
def tune(context: CliContext, as_json: JsonOption = False) -> None:
    """Measure replicas x threads on this machine, for half a minute. The fastest is used if neither is set."""
    import msgspec
    from rich.console import Console

    from services.cores import num_cores
    from services.tune import table as tune_table
    from services.tune.measure import best, layouts, measure

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

    shown = Table("replicas", "threads", title="texts per second, by batch size", title_justify="left")
    for texts in winner.texts_per_s:
        shown.add_column(str(texts), justify="right")
    for measured in table:
        layout = measured.layout
        rates = (f"{rate:.0f}" for rate in measured.texts_per_s.values())
        style = "bold" if measured == winner else None
        shown.add_row(str(layout.replicas), str(layout.threads), *rates, style=style)
    return shown


@reads_settings
def profile(
    context: CliContext, name: NameArgument = None, explain: ExplainOption = False, as_json: JsonOption = False
) -> None:
    """Show what a profile fixes: model, precision, limits and promises. The setting `profile` selects one."""
    import msgspec

    from services.members.search import read_front
    from services.profiles.encoders import trained_as
    from services.profiles.explain import SHAPES, at_full_size, profile_values, render_profiles
    from services.profiles.profile import PROFILES

    if name is not None and name not in PROFILES:
        raise typer.BadParameter(f"there is no profile {name}; the profiles are {', '.join(PROFILES)}")
    names = [name] if name else list(PROFILES)
    front = read_front(context.load().settings.state_dir)
    trained = {name: found for name in names if (found := trained_as(PROFILES[name], front)) is not None}
    if as_json:
        rows = []
        for profile_name in names:
            row = profile_values(PROFILES[profile_name])
            row["trained"] = msgspec.to_builtins(trained.get(profile_name))
            if explain and profile_name in SHAPES:
                row["at_full_size"] = at_full_size(profile_name)
            rows.append(row)
        print(json.dumps(rows, indent=2))
    else:
        echo(*render_profiles(names, explains=explain).split("\n"))
        for profile_name, found in trained.items():
            echo(f"{profile_name} is trained: {found.line()}")
