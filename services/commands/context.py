"""`--config` and `--set`, which every command that reads settings has, before or after its own options."""

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

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings [default: ./lifelong.toml]")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting, such as serving.replicas=2; may be repeated"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@dataclass(frozen=True, slots=True)
class CliContext:
    """What the command line says about settings."""

    file: Path | None
    assignments: tuple[str, ...]

    def load(self, **named: Any) -> "Loaded":
        """The settings in force; `named` are a command's own flags (`serving__replicas=2`), which win unless None."""
        from services.settings import load

        flags = [f"{name.replace('__', '.')}={value}" for name, value in named.items() if value is not None]
        return load(file=self.file, environ=os.environ, flags=[*self.assignments, *flags])

    def process(self, **named: Any) -> "Settings":
        """The settings of a process of ours, whose log is set up by them. What it writes is for its owner's eyes."""
        from services.local.tether import OWNER_ONLY
        from services.settings import logs_of
        from wire.logs import configure

        os.umask(OWNER_ONLY)
        settings = self.load(**named).settings
        configure(logs_of(settings))
        return settings

    def attached(self, **named: Any) -> "Settings":
        """The settings with the addresses of what runs, and its key, which no log shows. Raises NotRunning."""
        from services.running import attach
        from services.settings import logs_of
        from wire.logs import configure

        settings = attach(self.process(**named))
        configure(logs_of(settings))
        return settings


def reads_settings(command: Callable[Concatenate[CliContext, Options], None]) -> Callable[..., None]:
    """Adds `--config` and `--set` to a command, and hands them to it as its first argument."""
    own = list(inspect.signature(command).parameters.values())[1:]
    added = [
        inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigOption),
        inspect.Parameter("assignments", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=SetOption),
    ]

    @wraps(command)
    def run(*args: Any, config: Path | None, assignments: list[str] | None, **kwargs: Any) -> None:
        command(CliContext(config, tuple(assignments or ())), *args, **kwargs)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + added
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run
