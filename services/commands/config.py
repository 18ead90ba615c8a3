"""`lifelong config show|check|schema`: the settings in force, the source of each, and the schema of their file."""

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings, require_strategy

if TYPE_CHECKING:
    from services.settings import Loaded

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
        print(json.dumps(_rows(loaded, with_origins=sources), indent=2))
    else:
        print(_as_toml(loaded, with_origins=sources))


@app.command()
@reads_settings
def check(context: CliContext) -> None:
    """Say whether the settings are valid; otherwise name everything that is wrong, and exit with 78."""
    from services.settings import Settings
    from services.settings_docs import schemas

    loaded = context.load()
    require_strategy(loaded.settings)
    changed = sum(not loaded.origins.get(name, "follows ").startswith("follows ") for name in schemas(Settings))
    print(f"The settings are valid: {changed} set, the others at their defaults.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, by which an editor completes and checks it."""
    from pydantic.json_schema import GenerateJsonSchema

    from services.settings import Settings

    print(json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **Settings.model_json_schema()}, indent=2))


def _rows(loaded: "Loaded", *, with_origins: bool) -> dict[str, Any]:
    from wire.config import flat
    from wire.logs import without_password

    values = flat(loaded.settings.model_dump(mode="json"))
    rows = {name: without_password(value) if isinstance(value, str) else value for name, value in values.items()}
    if not with_origins:
        return rows
    return {name: {"value": value, "source": loaded.origins.get(name, "default")} for name, value in rows.items()}


def _as_toml(loaded: "Loaded", *, with_origins: bool) -> str:
    from services.settings import Settings
    from services.settings_docs import described, schemas, setting_of

    rows = _rows(loaded, with_origins=False)
    lines: list[str] = []
    for section, names in groupby(sorted(rows, key=_section_of), key=_section_of):
        if section:
            lines += ["", f"[{section}]"]
        for name in names:
            lines.append(f"# {described(Settings, name)}")
            if with_origins:
                lines.append(f"# set by: {loaded.origins.get(name, 'default')}")
            unset = rows[name] is None or schemas(Settings)[setting_of(Settings, name)]["writeOnly"]
            lines.append(f"{'# ' if unset else ''}{name.rpartition('.')[2]} = {json.dumps(rows[name])}")
    return "\n".join(lines)


def _section_of(name: str) -> str:
    return name.rpartition(".")[0]
