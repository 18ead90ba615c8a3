"""`lifelong status|top|audit`: what the page shows, once or again and again, and what operators did.

`audit` also says whether the record is whole.
"""

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo
from services.commands.rollout import open_operator

if TYPE_CHECKING:
    from wire.records import AdminAction

BROKEN = 1
"""Exit code where the chain is broken."""


@reads_settings
def status(
    context: CliContext,
    keeps_watching: Annotated[
        bool, typer.Option("--watch", help="Draw it again once a second, until Control-C")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show alarms, arms, evidence, replicas and their promises, learner, labels and drift: what the page shows."""
    from services.page.terminal import show

    with open_operator(context) as operator:
        show(operator, keeps_watching=keeps_watching, as_json=as_json)


@reads_settings
def top(
    context: CliContext,
    once: Annotated[bool, typer.Option("--once", help="Show it once, as `lifelong status`")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the same again and again, as `lifelong status --watch`; --json shows it once."""
    from services.page.terminal import show

    with open_operator(context) as operator:
        show(operator, keeps_watching=not once, as_json=as_json)


@reads_settings
def audit(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest records")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was done through the page, by whom, and what became of it; exit with 1 where the chain is broken."""
    import msgspec

    from services.admin_log import AdminLog, admin_actions
    from services.keys import ring_of
    from wire.bus import Bus

    settings = context.attached()
    with closing(Bus(settings.bus, client_id="audit")) as bus:
        records = list(admin_actions(bus))
    breaks = list(AdminLog(ring_of(settings), prefix=settings.bus.prefix, source="").breaks(records))
    newest = records[-limit:]
    if as_json:
        print(json.dumps({"actions": msgspec.to_builtins(newest), "breaks": breaks}, indent=2))
    else:
        for record in newest:
            echo(action_line(record))
        echo(*(f"ALARM: {each}" for each in breaks))
        if not breaks:
            echo(f"{len(records)} records, in an unbroken chain.")
    if breaks:
        raise typer.Exit(BROKEN)


def action_line(record: "AdminAction") -> str:
    """Returns when who did what, and what became of it."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time_ms / 1000))
    detail = f": {record.detail}" if record.detail else ""
    return f"{moment}  {record.client:<15}  {record.action} {record.outcome}{detail}"
