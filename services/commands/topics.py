"""`lifelong topics create|check|grow|describe|schema`: the topics on a broker that is not ours; `up` makes its own."""

import json
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import CONFIGURATION
from services.commands.output import echo

if TYPE_CHECKING:
    from wire.config import BusConfig

ForOption = Annotated[
    Literal["serve", "learn", "rollout"] | None,
    typer.Option("--for", help="The program whose rights are asked for [default: all that there are]"),
]

app = typer.Typer(help="The topics of the events, answers and labels.", no_args_is_help=True)


@app.command()
@reads_settings
def create(context: CliContext, as_json: JsonOption = False) -> None:
    """Create the topics that do not exist yet; what exists stays as it is. Exits with 75 when no broker answers."""
    from wire.bus import Bus

    with closing(Bus(_required(context), client_id="topics")) as bus:
        created = bus.create_topics()
    if as_json:
        print(json.dumps({"created": created}))
        return
    echo(*(created or ["All topics are there already."]))


@app.command()
@reads_settings
def check(context: CliContext, program: ForOption = None, as_json: JsonOption = False) -> None:
    """Say what is wrong with the topics: missing ones, rights, partitions, retention. Exits with 78 where it is.

    The rights are those to read and write all of them, or those of one program."""
    from services.topics import findings_for, findings_of, line_of
    from wire.records import TOPIC_RECORDS

    config = _required(context)
    found = findings_for(context.process(), program) if program else findings_of(config, writes=TOPIC_RECORDS)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    else:
        echo(*(map(line_of, found) if found else ["The topics are there, with rights, partitions and retention."]))
    if any(each.is_wrong for each in found):
        raise typer.Exit(CONFIGURATION)


@app.command()
@reads_settings
def grow(context: CliContext, as_json: JsonOption = False) -> None:
    """Add partitions to the topics that have fewer than `bus.partitions`. None is ever removed."""
    from wire.bus import Bus

    config = _required(context)
    with closing(Bus(config, client_id="topics")) as bus:
        had = bus.grow_topics()
    if as_json:
        print(json.dumps({name: {"before": num, "now": config.partitions} for name, num in had.items()}, indent=2))
        return
    lines = [f"{name}: {config.partitions} partitions, before {num}" for name, num in had.items()]
    echo(*(lines or [f"Every topic has {config.partitions} partitions or more."]))


@app.command()
@reads_settings
def describe(context: CliContext) -> None:
    """Print the AsyncAPI 3 document of the topics, as JSON: what is sent on each, by whom, and in which form."""
    from services.topics import document_of

    print(json.dumps(document_of(context.process().bus.prefix), indent=2))


@app.command()
def schema(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="event, answer, feedback or quarantined")],
) -> None:
    """Print the JSON Schema of the messages of a RECORD, as in docs/schemas/."""
    from wire.records.schemas import SCHEMAS

    if record not in SCHEMAS:
        raise typer.BadParameter(f"there is none of {record!r}; there are {', '.join(SCHEMAS)}")
    print(json.dumps(SCHEMAS[record], indent=2))


def _required(context: CliContext) -> "BusConfig":
    from services.settings import BadSettings

    config = context.process().bus
    if not config.bootstrap_servers:
        raise BadSettings("bus.bootstrap_servers: is required; it names the broker")
    return config
