"""`lifelong commands list`: the operators' commands in order, with their outcomes."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines

if TYPE_CHECKING:
    from wire.records import CommandEntry

SHOWN = ("action", "labels", "to", "name", "digest", "digests", "version")
"""The fields of a command's body that are shown."""

app = typer.Typer(no_args_is_help=True, help="The operators' commands and their outcomes.")


@app.command("list")
@reads_settings
def list_(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of commands to show")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List erasures, label changes, encoder offers, repairs and rollout steps with their outcomes, newest last."""
    import msgspec

    from services.programs import open_store

    with closing(open_store(context.attached())) as store:
        entries = store.commands.entries(limit)
    if as_json:
        rows = msgspec.to_builtins(entries)
        echo(*json_lines([command | {"outcome": outcome} for command, outcome in rows]))
        return
    for entry in entries:
        echo(" ".join(_parts(entry)).rstrip())
    if not entries:
        echo("There are no commands yet.")


def _parts(entry: "CommandEntry") -> Iterator[str]:
    """Yields number, time, verb, arguments and outcome of a command."""
    command, outcome = entry
    yield f"{command.seq:>4}"
    yield time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(command.time_ms / 1000))
    yield f"{command.verb:<9}"
    for name in SHOWN:
        value = command.body.get(name)
        if isinstance(value, list):
            value = ", ".join(value)
        if value:
            yield f"{'-> ' if name == 'to' else ''}{value}"
    yield f"by {command.source or 'nobody'}:"
    if outcome is None:
        yield "waits for a learner"
        return
    yield outcome.state
    if outcome.version:
        yield f"(version {outcome.version})"
    yield ", ".join([*outcome.reasons, *(f"{num} {name}" for name, num in outcome.numbers.items() if num)])
