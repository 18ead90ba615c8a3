"""`lifelong doctor`: checks of the machine and the settings, and the remedy for each problem."""

import dataclasses
import json
import sys

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import CONFIGURATION
from services.commands.output import echo


@reads_settings
def doctor(context: CliContext, as_json: JsonOption = False) -> None:
    """Look at this machine and say how to fix what is not fit. Exits with 78 when something will not work."""
    from services.doctor import examine

    checks = []
    for check in examine(context.load().settings):
        checks.append(check)
        if not as_json:
            found = check.found.replace("\n", f"\n{'':<19}")
            echo(*f"{check.state:<5} {check.name:<12} {found}".split("\n"))
            if check.fix:
                echo(f"{'':<18} -> {check.fix}")
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    if any(check.state == "fail" for check in checks):
        sys.stdout.flush()
        raise typer.Exit(CONFIGURATION)
