"""`lifelong status|top|audit`: what runs and what it promises, what the page shows, and what operators did.

`audit` also says whether the record is whole.
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo
from services.commands.rollout import open_operator
from services.commands.rollout_text import status_lines

if TYPE_CHECKING:
    from wire.records import AdminAction, Promise, ReplicaReport

MEASURE_S = 1.0
"""How long answers are counted before they are told once."""

BROKEN = 1
"""Exit code where the chain is broken."""


@reads_settings
def status(context: CliContext, as_json: JsonOption = False) -> None:
    """Show the replicas with their profile and its promises, and what `lifelong rollout status` shows."""
    with open_operator(context) as operator:
        found = operator.status()
    if as_json:
        print(json.dumps([_as_json(report) for report in found.replicas], indent=2))
        return
    for report in found.replicas:
        for line in promise_lines(report):
            echo(line)
    for line in status_lines(found):
        echo(line)


def promise_lines(report: "ReplicaReport") -> Iterator[str]:
    """Yields the profile of a replica, and each of its promises with what was measured over the last minute."""
    yield f"replica {report.replica}: {f'profile {report.profile}' if report.profile else 'no profile'}"
    for promise in report.promises:
        verdict = {True: "kept", False: "NOT KEPT", None: ""}[promise.is_met]
        measured = "nothing measured" if promise.value is None else f"{promise.value:.4g}"
        side = "<=" if promise.is_ceiling else ">="
        yield f"  {promise.name:<14} {measured:>16}  {side} {promise.limit:g}  {verdict}".rstrip()


def _as_json(report: "ReplicaReport") -> dict[str, object]:
    return {
        "replica": report.replica,
        "profile": report.profile,
        "promises": [_promise_json(promise) for promise in report.promises],
    }


def _promise_json(promise: "Promise") -> dict[str, object]:
    return {"name": promise.name, "limit": promise.limit, "value": promise.value, "is_met": promise.is_met}


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
