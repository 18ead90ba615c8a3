"""`lifelong config show|check|schema`: the settings in force, the source of each, and the schema of their file."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings, require_strategy
from services.commands.output import echo

if TYPE_CHECKING:
    from services.settings import Loaded, Settings

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
        echo(*_as_toml(loaded, with_origins=sources).split("\n"))


@app.command()
@reads_settings
def check(context: CliContext) -> None:
    """Say whether the settings are valid; otherwise name everything that is wrong, and exit with 78.

    Classes that they name are imported and tried. No server is asked: that is `lifelong doctor`.
    """
    from services.settings import Settings
    from services.settings_docs import schemas

    loaded = context.load()
    _require_classes(loaded)
    changed = sum(not loaded.origins.get(name, "follows ").startswith("follows ") for name in schemas(Settings))
    echo(f"The settings are valid: {changed} set, the others at their defaults. `lifelong doctor` asks the servers.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, by which an editor completes and checks it."""
    from pydantic.json_schema import GenerateJsonSchema

    from services.settings import Settings

    print(json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **Settings.model_json_schema()}, indent=2))


def _require_classes(loaded: "Loaded") -> None:
    """Raises BadSettings where a class that the settings name, or those of a task, cannot be used."""
    from learner.errors import LearnerError
    from model.errors import ModelError
    from services.settings import BadSettings
    from wire.errors import WireError

    settings = loaded.settings
    problems: dict[str, str] = {}
    for place, own in {"": settings, **{f"tasks.{task}.": settings.of_task(task) for task in settings.tasks}}.items():
        for name, tried in _classes(own):
            try:
                tried()
            except (BadSettings, ModelError, LearnerError, WireError) as error:
                said = error.problems[0] if isinstance(error, BadSettings) else str(error)
                problems.setdefault(said, f"{loaded.origins.get(f'{place}{name}', f'{place}{name}')}: {said}")
    if problems:
        raise BadSettings(*problems.values())


def _classes(settings: "Settings") -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields the settings that name a class, each with what imports and tries it."""
    from model.source import is_import_path

    if is_import_path(settings.encoder):
        from model.module_code import import_encoder

        yield "encoder", partial(import_encoder, settings.encoder)
    if settings.learner.head:
        from learner.fast.own_head import import_head

        yield "learner.head", partial(import_head, settings.learner.head)
    if settings.bus.sasl_oauth_token_provider:
        from wire.bus.client_options import security_options

        yield "bus.sasl_oauth_token_provider", partial(security_options, settings.bus)
    yield "learner.slow_strategy", partial(require_strategy, settings)


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
