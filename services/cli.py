"""The entry point of the program `lifelong`, with the table of its commands and their modules.

Only the module of the command that was typed is imported, and each command imports heavy modules itself, so that a
process starts quickly and loads only the code that it runs. The help, and a command that does not exist, import the
modules of all commands.

Exit codes: 0 success, 2 usage error, 75 a server or a program did not answer (try again), 78 wrong settings or set-up.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from services.collisions import collisions_at_start
from services.commands.exits import CONFIGURATION, codes, exit_code
from services.commands.output import echo

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "up": ("services.commands.run", "up"),
    "demo": ("services.commands.run", "demo"),
    "serve": ("services.commands.run", "serve"),
    "learn": ("services.commands.run", "learn"),
    "page": ("services.commands.run", "page"),
    "predict": ("services.commands.ask", "predict"),
    "feedback": ("services.commands.ask", "feedback"),
    "try-message": ("services.commands.try_message", "try_message"),
    "forget": ("services.commands.labels", "forget"),
    "status": ("services.commands.status", "status"),
    "top": ("services.commands.status", "top"),
    "audit": ("services.commands.status", "audit"),
    "backup": ("services.commands.backup", "backup"),
    "restore": ("services.commands.backup", "restore"),
    "migrate": ("services.commands.doctor", "migrate"),
    "doctor": ("services.commands.doctor", "doctor"),
    "tune": ("services.commands.tune", "tune"),
    "profile": ("services.commands.tune", "profile"),
    "import": ("services.commands.history", "import_"),
    "export": ("services.commands.exported", "export_"),
    "versions": ("services.commands.versions", "app"),
    "encoder": ("services.commands.encoder", "app"),
    "new": ("services.commands.encoder", "new_app"),
    "model": ("services.commands.model", "app"),
    "rollout": ("services.commands.rollout", "app"),
    "labels": ("services.commands.labels", "app"),
    "commands": ("services.commands.operator_log", "app"),
    "quarantine": ("services.commands.refused", "quarantine"),
    "topics": ("services.commands.topics", "app"),
    "deadletters": ("services.commands.refused", "deadletters"),
    "keys": ("services.commands.keys", "keys"),
    "signing-keys": ("services.commands.signing_keys", "app"),
    "secrets": ("services.commands.keys", "secrets"),
    "config": ("services.commands.config", "app"),
    "bench": ("services.commands.bench", "app"),
}
"""Maps each command to its module and to its function or group of commands there, in the order of the help."""


def main() -> None:
    """Runs the command that was typed, unless Python would import packages of other distributions in place of ours."""
    name_collisions = collisions_at_start()
    for collision in name_collisions:
        # `echo` is not used here: it imports a package, which may be the package of the other distribution.
        sys.stderr.write(ascii(f"lifelong: {collision}. {collision.fix}.")[1:-1] + "\n")
    if not all(collision.is_ours for collision in name_collisions):
        sys.exit(CONFIGURATION)
    try:
        program(*sys.argv[1:2])()
    except SystemExit:
        # The normal end of a command. The next clause imports the error classes, which only an error needs.
        raise
    except tuple(codes()) as error:
        echo(*f"lifelong: {error}".split("\n"), is_error=True)
        sys.exit(exit_code(error))


def program(command: str = "") -> typer.Typer:
    """Returns the program with one command, or with all commands if `command` is not the name of one.

    The modules of the commands are imported here, after the check for collisions.
    """
    app = typer.Typer(
        name="lifelong",
        help="Answers events with a quantized model and keeps learning from the labels that come back.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in [command] if command in COMMANDS else COMMANDS:
        module, attribute = COMMANDS[name]
        function_or_group = getattr(importlib.import_module(module), attribute)
        if isinstance(function_or_group, typer.Typer):
            app.add_typer(function_or_group, name=name)
        else:
            app.command(name)(function_or_group)
    return app


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        echo(f"lifelong {importlib.metadata.version('lifelong')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Accept the options of `lifelong` itself."""


if __name__ == "__main__":
    main()
