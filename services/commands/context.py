"""The options `--config` and `--set` of every command that reads settings, before or after its own options."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

if TYPE_CHECKING:
    from services.settings import Loaded, Settings

Options = ParamSpec("Options")


def _assignments(texts: list[str] | None) -> list[str] | None:
    """Returns the values of `--set`. Raises BadParameter where one is no assignment."""
    for text in texts or ():
        if "=" not in text:
            raise typer.BadParameter(f"{text!r} has no value. Write --set NAME=VALUE, such as --set bus.partitions=8")
    return texts


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file of settings [default: ./lifelong.toml]",
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
        help="One setting, such as serving.replicas=2; may be repeated",
        callback=_assignments,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@dataclass(frozen=True, slots=True)
class CliContext:
    """The settings file and the assignments on the command line, from which a command loads its settings."""

    file: Path | None
    assignments: dict[str, str]

    def load(self, **own_flags: Any) -> "Loaded":
        """Loads the settings. `own_flags` are a command's own (`serving__replicas=2`); they win unless None."""
        from services.settings import load
        from services.tune.table import tuned

        flags = {name.replace("__", "."): value for name, value in own_flags.items() if value is not None}
        return tuned(load(file=self.file, environ=os.environ, flags={**self.assignments, **flags}))

    def process(self, **own_flags: Any) -> "Settings":
        """Loads the settings of a process, configures its log, and makes the files it writes private to its owner."""
        from services.local.tether import OWNER_ONLY
        from wire.logs import configure

        os.umask(OWNER_ONLY)
        settings = self.load(**own_flags).settings
        configure(settings.logs)
        return settings

    def attached(self, **own_flags: Any) -> "Settings":
        """Loads the settings with the addresses and the signing key of the running stack. Raises NotRunning."""
        from services.running import attach
        from wire.logs import configure

        settings = attach(self.process(**own_flags))
        configure(settings.logs)  # again, since the key must be hidden, too
        return settings


def require_strategy(settings: "Settings") -> None:
    """Raises BadSettings where `learner.slow_strategy` is the path of a class that cannot learn a slow round.

    Loading the settings does not ask: every command would import torch and Avalanche.
    """
    from learner.config import is_import_path
    from learner.errors import DataError
    from services.settings import BadSettings, Settings
    from services.settings_docs import described

    if not is_import_path(settings.learner.slow_strategy):
        return
    from learner.slow.avalanche.trainer import try_out

    try:
        try_out(settings.learner)
    except DataError as error:
        name = "learner.slow_strategy"
        raise BadSettings(f"{name}: {error}. {name}: {described(Settings, name)}") from error


def reads_settings(command: Callable[Concatenate[CliContext, Options], None]) -> Callable[..., None]:
    """Adds `--config` and `--set` to a command, which gets them as its first argument, a CliContext."""
    own = list(inspect.signature(command).parameters.values())[1:]
    added = [
        inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigOption),
        inspect.Parameter("assignments", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=SetOption),
    ]

    @wraps(command)
    def run(*args: Any, config: Path | None, assignments: list[str] | None, **kwargs: Any) -> None:
        pairs = [text.split("=", 1) for text in assignments or ()]
        command(CliContext(config, {name.strip(): value for name, value in pairs}), *args, **kwargs)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + added
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run
