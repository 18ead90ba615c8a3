"""`lifelong topics create|check|grow|describe|schema`: topics on a broker of your own; `up` makes its own topics."""

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
    typer.Option("--for", help="Check the rights of this program only [default: all rights]"),
]

app = typer.Typer(help="The topics of the events, answers and labels.", no_args_is_help=True)


@app.command()
@reads_settings
def create(context: CliContext, as_json: JsonOption = False) -> None:
    """Create the topics that do not exist yet; existing topics stay as they are. Exits with 75 if no broker answers."""
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
    """Check the topics, the rights to them, their partitions and their retention. Exits with 78 if something is wrong.

    It checks the rights to read and write all topics, or with --for the rights of one program."""
    from services.topics import find_problems, findings_for, render_finding
    from wire.records import TOPIC_RECORDS

    config = _required(context)
    findings = findings_for(context.process(), program) if program else find_problems(config, writes=TOPIC_RECORDS)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        lines = [render_finding(finding) for finding in findings]
        echo(*(lines or ["The topics, rights, partitions and retention are right."]))
    if any(finding.is_wrong for finding in findings):
        raise typer.Exit(CONFIGURATION)


@app.command()
@reads_settings
def grow(context: CliContext, as_json: JsonOption = False) -> None:
    """Add partitions to topics that have fewer than `bus.partitions`. Partitions are never removed."""
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
    """Print an AsyncAPI 3 document of the topics as JSON: which program sends what on each topic, and in which form."""
    from services.topics import asyncapi_document

    print(json.dumps(asyncapi_document(context.process().bus.prefix), indent=2))


@app.command()
def schema(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="event, answer, feedback or quarantined")],
) -> None:
    """Print the JSON Schema of a RECORD's messages, as in docs/schemas/."""
    from wire.records.schemas import SCHEMAS

    if record not in SCHEMAS:
        raise typer.BadParameter(f"{record!r} is not a record; the records are {', '.join(SCHEMAS)}")
    print(json.dumps(SCHEMAS[record], indent=2))


def _required(context: CliContext) -> "BusConfig":
    from services.settings import BadSettings

    config = context.process().bus
    if not config.bootstrap_servers:
        raise BadSettings("bus.bootstrap_servers: is required; it names the broker")
    return config
