"""`lifelong config show|check|schema`: the settings in force, the source of each, and the schema of the file."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings, require_strategy
from services.commands.output import echo

if TYPE_CHECKING:
    from services.settings import Loaded, Settings

app = typer.Typer(no_args_is_help=True, help="The settings: a TOML file, then LIFELONG_* variables, then options.")


@app.command()
@reads_settings
def show(
    context: CliContext,
    every: Annotated[bool, typer.Option("--all", help="Print every setting, including advanced ones")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="Print where each value was set")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the main settings and all settings that are set, as a valid file for --config. Secrets are hidden."""
    loaded = context.load()
    rows = _rows(loaded, every=every)
    if as_json and sources:
        rows = {name: {"value": rows[name], "source": loaded.origins.get(name, "default")} for name in rows}
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        echo(*_as_toml(loaded, rows, with_origins=sources).split("\n"))


@app.command()
@reads_settings
def check(context: CliContext) -> None:
    """Check the settings: name everything that is wrong, and exit with 78, or say that they are valid.

    Classes that the settings name are imported and tried. Servers are not contacted: `lifelong doctor` does that.
    """
    from services.settings import Settings
    from services.settings_docs import schemas

    loaded = context.load()
    _require_classes(loaded)
    changed = sum(not loaded.origins.get(name, "follows ").startswith("follows ") for name in schemas(Settings))
    echo(f"The settings are valid: {changed} set, the others at their defaults. `lifelong doctor` checks the servers.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file, for completion and checks in an editor."""
    from pydantic.json_schema import GenerateJsonSchema

    from services.settings import Settings
    from services.settings_docs import file_schema

    print(json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **file_schema(Settings)}, indent=2))


def _require_classes(loaded: "Loaded") -> None:
    """Raises BadSettings if a class cannot be used that the settings, or the settings of a task, name."""
    from learner.errors import LearnerError
    from model.errors import ModelError
    from services.settings import BadSettings
    from wire.errors import WireError

    settings = loaded.settings
    problems: dict[str, str] = {}
    for prefix, own in {"": settings, **{f"tasks.{task}.": settings.of_task(task) for task in settings.tasks}}.items():
        for name, tried in _classes(own):
            try:
                tried()
            except (BadSettings, ModelError, LearnerError, WireError) as error:
                problem = error.problems[0] if isinstance(error, BadSettings) else str(error)
                problems.setdefault(problem, f"{loaded.origins.get(f'{prefix}{name}', f'{prefix}{name}')}: {problem}")
    if problems:
        raise BadSettings(*problems.values())


def _classes(settings: "Settings") -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields each setting that names a class, with a function that imports and tries the class."""
    from model.source import is_import_path

    if is_import_path(settings.encoder):
        from model.encoders import open_inputs

        yield "encoder", partial(open_inputs, settings.encoder)
    if settings.learner.head:
        from model.heads import open_head

        yield "learner.head", partial(open_head, settings.learner.head)
    if settings.bus.sasl_oauth_token_provider:
        from wire.bus.client_options import security_options

        yield "bus.sasl_oauth_token_provider", partial(security_options, settings.bus)
    yield "learner.slow_strategy", partial(require_strategy, settings)


def _rows(loaded: "Loaded", *, every: bool) -> dict[str, Any]:
    """Returns the values by dotted name: the main settings and all that are set, or every setting."""
    from services.settings import FOLLOWS_STATE_DIR, Settings
    from services.settings_docs import MAIN, documented_name, schemas
    from wire.config import flat
    from wire.logs import without_password

    listed = schemas(Settings)
    rows: dict[str, Any] = {}
    for name, value in flat(loaded.settings.model_dump(mode="json")).items():
        setting = documented_name(Settings, name)
        is_set = loaded.origins.get(name, FOLLOWS_STATE_DIR) != FOLLOWS_STATE_DIR
        if setting in listed and (every or is_set or setting in MAIN):
            rows[name] = without_password(value) if isinstance(value, str) else value
    return rows


def _as_toml(loaded: "Loaded", rows: Mapping[str, Any], *, with_origins: bool) -> str:
    from services.settings import Settings
    from services.settings_docs import MAIN, describe_setting, documented_name, schemas

    lines: list[str] = []
    for section, names in groupby(sorted(rows, key=_find_section), key=_find_section):
        if section:
            lines += ["", f"[{section}]"]
        for name in names:
            setting = documented_name(Settings, name)
            lines.append(f"# {'' if setting in MAIN else '[advanced] '}{describe_setting(Settings, name)}")
            if with_origins:
                lines.append(f"# set by: {loaded.origins.get(name, 'default')}")
            unset = rows[name] is None or schemas(Settings)[setting]["writeOnly"]
            lines.append(f"{'# ' if unset else ''}{name.rpartition('.')[2]} = {json.dumps(rows[name])}")
    return "\n".join(lines)


def _find_section(name: str) -> str:
    return name.rpartition(".")[0]
