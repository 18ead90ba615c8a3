"""`lifelong top`: what the page shows, in the terminal."""

import time
from typing import Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo
from services.commands.rollout import open_operator

MEASURE_S = 1.0
"""How long answers are counted before they are told once."""


@reads_settings
def top(
    context: CliContext,
    once: Annotated[bool, typer.Option("--once", help="Show it once, after a second of counting")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show accuracy, arms, versions, replicas, lag and alarms, again and again; --json shows them once."""
    import msgspec
    from rich.console import Console

    from services.page.state import StateReader
    from services.page.terminal import drawn, watch
    from wire.timestamps import now_ms

    with open_operator(context) as operator:
        reader = StateReader(operator, now_ms=now_ms)
        if not (once or as_json):
            watch(reader, Console())
            return
        reader.read()
        time.sleep(MEASURE_S)
        state = reader.read()
    if as_json:
        echo(*msgspec.json.format(msgspec.json.encode(state)).decode().split("\n"))
    else:
        Console().print(drawn(state))
