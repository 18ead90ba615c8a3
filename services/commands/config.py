"""`lifelong config show|check`: the settings in force, and the source of each."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings

if TYPE_CHECKING:
    from services.loader import Loaded

app = typer.Typer(no_args_is_help=True, help="The settings: a TOML file, then LIFELONG_* variables, then flags.")


@app.command()
@reads_settings
def show(
    context: CliContext,
    sources: Annotated[bool, typer.Option("--sources", help="Say where each value was set")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every setting with its meaning: a valid file for --config. Secrets are hidden."""
    loaded = context.load()
    if as_json:
        print(json.dumps(_rows(loaded, with_sources=sources), indent=2))
    else:
        print(_as_toml(loaded, with_sources=sources))


@app.command()
@reads_settings
def check(context: CliContext) -> None:
    """Say whether the settings are valid; otherwise name everything that is wrong, and exit with 78."""
    loaded = context.load()
    changed = sum(not source.startswith("follows ") for source in loaded.sources.values())
    print(f"The settings are valid: {changed} set, the others at their defaults.")


def _rows(loaded: "Loaded", *, with_sources: bool) -> dict[str, Any]:
    from services.settings import known, values_of

    rows = {name: known()[name].shown(value) for name, value in values_of(loaded.settings).items()}
    if not with_sources:
        return rows
    return {name: {"value": value, "source": loaded.sources.get(name, "default")} for name, value in rows.items()}


def _as_toml(loaded: "Loaded", *, with_sources: bool) -> str:
    from services.settings import known

    lines: list[str] = []
    section = ""
    for name, value in _rows(loaded, with_sources=False).items():
        above, _, leaf = name.rpartition(".")
        if above != section:
            lines += ["", f"[{above}]"]
            section = above
        limits = known()[name].limits
        lines.append(f"# {known()[name].doc}{f' ({limits})' if limits else ''}")
        if with_sources:
            lines.append(f"# set by: {loaded.sources.get(name, 'default')}")
        unset = value is None or known()[name].is_secret
        lines.append(f"{'# ' if unset else ''}{leaf} = {json.dumps(value)}")
    return "\n".join(lines)
