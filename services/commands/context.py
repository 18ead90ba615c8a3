"""Adds `--config`, `--set` and `--task` to every command that reads settings, and loads the settings from them."""

import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer
from typer.models import ParameterInfo

if TYPE_CHECKING:
    from services.settings import Loaded, Settings

Options = ParamSpec("Options")
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


def _assignments(texts: list[str] | None) -> list[str] | None:
    """Returns the values of `--set`. Raises BadParameter if one is not an assignment."""
    for text in texts or ():
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} has no value. Write --set NAME=VALUE, such as --set bus.partitions=8")
    return texts


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file with settings [default: ./lifelong.toml]",
        exists=True,
        dir_okay=False,
        readable=True,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting, for example serving.replicas=2; may be repeated",
        callback=_assignments,
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", metavar="NAME", help="Task that the command applies to [default: the unnamed task]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@dataclass(frozen=True, slots=True)
class CliContext:
    """The settings file and the assignments of a command line, from which a command loads its settings."""

    file: Path | None
    assignments: dict[str, str]

    def load(self, **own_flags: Any) -> "Loaded":
        """Loads the settings. `own_flags` (`serving__replicas=2`) win over other values unless None."""
        from services.settings import TUNE_FILE, load, with_tasks

        flags = {name.replace("__", "."): value for name, value in own_flags.items() if value is not None}
        loaded = with_tasks(load(file=self.file, environ=os.environ, flags={**self.assignments, **flags}))
        # Profiles and tuned values are imported only if the settings use them.
        if loaded.settings.profile:
            from services.profiles.profile import fill_in_profile

            loaded = fill_in_profile(loaded)
        if (loaded.settings.state_dir / TUNE_FILE).exists():
            from services.tune.table import fill_in_layout

            loaded = fill_in_layout(loaded)
        return loaded

    def process(self, **own_flags: Any) -> "Settings":
        """Loads the settings of a process, configures its log, and lets only its owner read the files it writes."""
        import structlog

        from services.local.children import OWNER_ONLY
        from wire.logs import configure
        from wire.sections import INTERNAL_VARIABLE

        os.umask(OWNER_ONLY)
        loaded = self.load(**own_flags)
        configure(loaded.settings.logs)
        if internal := [name for name, origin in loaded.origins.items() if origin == INTERNAL_VARIABLE]:
            structlog.get_logger("settings").warning("constants_changed", variable=INTERNAL_VARIABLE, names=internal)
        return loaded.settings

    def attached(self, **own_flags: Any) -> "Settings":
        """Loads the settings with the addresses and the signing key of the running stack. Raises NotRunning."""
        from services.running import attach
        from wire.logs import configure

        settings = attach(self.process(**own_flags))
        # Configured again, so that the log hides the signing key, too.
        configure(settings.logs)
        return settings


def require_strategy(settings: "Settings") -> None:
    """Raises BadSettings if `learner.slow_strategy` names a class that cannot train a slow round.

    Loading the settings does not check this, since every command would import torch and Avalanche.
    """
    from learner.config import is_import_path
    from learner.errors import DataError
    from services.settings import BadSettings, Settings
    from services.settings_docs import describe_setting

    if not is_import_path(settings.learner.slow_strategy):
        return
    from learner.rounds.avalanche import try_out
    from learner.rounds.strategies import make_strategy, own_strategy

    try:
        if own_strategy(settings.learner.slow_strategy) is None:
            try_out(settings.learner)
        else:
            make_strategy(settings.learner.slow_strategy, loss_q=settings.learner.slow_loss_q)
    except DataError as error:
        name = "learner.slow_strategy"
        raise BadSettings(f"{name}: {error}. {name}: {describe_setting(Settings, name)}") from error


def reads_settings(command: Callable[Concatenate[CliContext, Options], None]) -> Callable[..., None]:
    """Adds `--config`, `--set` and `--task` to a command, and passes them as its first argument, a CliContext.

    A parameter whose type is a dataclass stands for the options that its fields are annotated with.
    """
    own = list(inspect.signature(command).parameters.values())[1:]
    records: dict[str, type[Any]] = {
        parameter.name: parameter.annotation
        for parameter in own
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in own:
        is_record = parameter.name in records
        parameters += _list_options(parameter.annotation) if is_record else [parameter.replace(kind=KEYWORD_ONLY)]
    # A command may have an option `--task` of its own, with another meaning.
    has_task = any(parameter.name == "task" for parameter in parameters)
    parameters += [_keyword("config", None, ConfigOption), _keyword("assignments", None, SetOption)]
    parameters += [] if has_task else [_keyword("task", None, TaskOption)]

    @wraps(command)
    def run(*args: Any, config: Path | None, assignments: list[str] | None, **kwargs: Any) -> None:
        pairs = [text.split("=", 1) for text in assignments or ()]
        if not has_task and (task := kwargs.pop("task")) is not None:
            pairs.append(["task", task])
        for name, record in records.items():
            kwargs[name] = record(**{option.name: kwargs.pop(option.name) for option in _list_options(record)})
        command(CliContext(config, {name.strip(): value for name, value in pairs}), *args, **kwargs)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run


def _list_options(record: type[Any]) -> Iterator[inspect.Parameter]:
    """Yields the options of a dataclass: its fields that are annotated as options."""
    hints: Mapping[str, Any] = get_type_hints(record, include_extras=True)
    for field in fields(record):
        annotation = hints[field.name]
        if any(isinstance(part, ParameterInfo) for part in getattr(annotation, "__metadata__", ())):
            yield _keyword(field.name, _find_default(field), annotation)


def _find_default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _keyword(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, KEYWORD_ONLY, default=default, annotation=annotation)


def stop_signal() -> threading.Event:
    """Returns an event that SIGTERM or SIGINT sets."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
