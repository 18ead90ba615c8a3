"""`lifelong profile`: what the profiles fix and promise."""

import json
from typing import Annotated

import typer

from services.commands.context import JsonOption
from services.commands.output import echo

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="nano, base or pro [default: all]")]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Memory and latency at 3, 7 and 13 billion parameters")]


def profile(name: NameArgument = None, explain: ExplainOption = False, as_json: JsonOption = False) -> None:
    """Show what a profile fixes: model, precision, limits and promises. The setting `profile` names the one in use."""
    from services.profiles.explain import at_full_size, summary, text
    from services.profiles.profile import PROFILES

    if name is not None and name not in PROFILES:
        raise typer.BadParameter(f"there is no profile {name}; there are {', '.join(PROFILES)}")
    names = [name] if name else list(PROFILES)
    if as_json:
        found = [summary(PROFILES[each]) | ({"at_full_size": at_full_size(each)} if explain else {}) for each in names]
        print(json.dumps(found, indent=2))
    else:
        echo(*text(names, explains=explain).split("\n"))
