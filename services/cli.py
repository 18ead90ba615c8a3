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
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from services.collisions import collisions_at_start
from services.commands.exits import CONFIGURATION, codes, exit_code
from services.commands.output import echo

GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Run the service": {
        "demo": ("services.commands.run", "demo"),
        "up": ("services.commands.run", "up"),
        "serve": ("services.commands.run", "serve"),
        "learn": ("services.commands.run", "learn"),
        "page": ("services.commands.run", "page"),
    },
    "Get answers": {
        "predict": ("services.commands.ask", "predict"),
        "try-message": ("services.commands.try_message", "try_message"),
    },
    "Teach": {
        "feedback": ("services.commands.ask", "feedback"),
        "import": ("services.commands.history", "import_"),
        "labels": ("services.commands.labels", "app"),
        "quarantine": ("services.commands.refused", "quarantine"),
        "forget": ("services.commands.labels", "forget"),
    },
    "Watch": {
        "status": ("services.commands.status", "status"),
        "top": ("services.commands.status", "top"),
        "audit": ("services.commands.status", "audit"),
        "commands": ("services.commands.operator_log", "app"),
        "deadletters": ("services.commands.refused", "deadletters"),
    },
    "Steer versions and encoders": {
        "rollout": ("services.commands.rollout", "app"),
        "versions": ("services.commands.versions", "app"),
        "profile": ("services.commands.tune", "profile"),
        "model": ("services.commands.model", "app"),
        "encoder": ("services.commands.encoder", "app"),
        "search": ("services.commands.search", "search"),
        "pretrain": ("services.commands.pretrain", "pretrain"),
        "new": ("services.commands.encoder", "new_app"),
    },
    "Set up": {
        "doctor": ("services.commands.doctor", "doctor"),
        "config": ("services.commands.config", "app"),
        "topics": ("services.commands.topics", "app"),
        "keys": ("services.commands.keys", "keys"),
        "signing-keys": ("services.commands.signing_keys", "app"),
        "secrets": ("services.commands.keys", "secrets"),
    },
    "Move data": {
        "backup": ("services.commands.backup", "backup"),
        "restore": ("services.commands.backup", "restore"),
        "export": ("services.commands.exported", "export_"),
        "migrate": ("services.commands.doctor", "migrate"),
    },
    "Measure": {
        "tune": ("services.commands.tune", "tune"),
        "bench": ("services.commands.bench", "app"),
    },
}
"""Maps each command to its module and to its function or group of commands there, by the headings of the help."""

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    name: place for commands in GROUPS.values() for name, place in commands.items()
}


class GroupedHelp(TyperGroup):
    """The help of the program, with the commands under the headings of GROUPS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a section for each heading."""
        longest = max(map(len, COMMANDS))
        width = formatter.width - longest - 6
        for heading, names in GROUPS.items():
            commands = {name: command for name in names if (command := self.get_command(ctx, name)) is not None}
            with formatter.section(heading):
                # All sections have their second column at the same place.
                formatter.write_dl(
                    [(name.ljust(longest), command.get_short_help_str(width)) for name, command in commands.items()]
                )


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
        cls=GroupedHelp,
        no_args_is_help=True,
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
