"""`lifelong commands list`: what operators asked for, in its order, and what became of it."""

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
"""What is shown of a command's body, by the names of its fields."""

app = typer.Typer(no_args_is_help=True, help="What operators asked for, and what became of it.")


@app.command("list")
@reads_settings
def list_(
    context: CliContext,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The last ones")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List erasures, changes of labels, offers, repairs and steps of the rollout with their outcomes, newest last."""
    import msgspec

    from services.programs import open_store

    with closing(open_store(context.attached())) as store:
        entries = store.commands.entries(limit)
    if as_json:
        told = msgspec.to_builtins(entries)
        echo(*json_lines([command | {"outcome": outcome} for command, outcome in told]))
        return
    for entry in entries:
        echo(" ".join(_parts(entry)).rstrip())
    if not entries:
        echo("Nothing was asked for yet.")


def _parts(entry: "CommandEntry") -> Iterator[str]:
    """Yields number, time, verb, what is asked for, and what became of it."""
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
