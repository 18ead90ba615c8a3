"""`lifelong status|top|audit`: the state of the service, once or continuously, and the record of what operators did.

`audit` also checks that no entry of the record is missing or changed.
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
"""Exit code if the chain of the record is broken."""


@reads_settings
def status(
    context: CliContext,
    keeps_watching: Annotated[bool, typer.Option("--watch", help="Redraw it once a second, until Control-C")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show alarms, arms, evidence, replicas and their promises, learner, labels and drift, as the page does."""
    from services.page.terminal import show

    with open_operator(context) as operator:
        show(operator, keeps_watching=keeps_watching, as_json=as_json)


@reads_settings
def top(
    context: CliContext,
    once: Annotated[bool, typer.Option("--once", help="Show it once, as `lifelong status` does")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the state continuously, as `lifelong status --watch` does. --json shows it once."""
    from services.page.terminal import show

    with open_operator(context) as operator:
        show(operator, keeps_watching=not once, as_json=as_json)


@reads_settings
def audit(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of records to show")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the actions on the page: who, what, and the outcome. Exits with 1 if the record's hash chain is broken."""
    import msgspec

    from services.admin_log import AdminLog, admin_actions
    from services.keys import key_ring
    from wire.bus import Bus

    settings = context.attached()
    with closing(Bus(settings.bus, client_id="audit")) as bus:
        records = list(admin_actions(bus))
    breaks = list(AdminLog(key_ring(settings), prefix=settings.bus.prefix, source="").breaks(records))
    newest = records[-limit:]
    if as_json:
        print(json.dumps({"actions": msgspec.to_builtins(newest), "breaks": breaks}, indent=2))
    else:
        for record in newest:
            echo(render_action(record))
        echo(*(f"ALARM: {problem}" for problem in breaks))
        if not breaks:
            echo(f"{len(records)} records, in an unbroken chain.")
    if breaks:
        raise typer.Exit(BROKEN)


def render_action(record: "AdminAction") -> str:
    """Returns one line about an operator's action: the time, the client, the action and the outcome."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.time_ms / 1000))
    detail = f": {record.detail}" if record.detail else ""
    return f"{moment}  {record.client:<15}  {record.action} {record.outcome}{detail}"
