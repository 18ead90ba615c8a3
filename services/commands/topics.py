"""`lifelong topics`: the topics on a broker that is not ours. `lifelong up` and `demo` make them by themselves."""

import json
from contextlib import closing

import typer

from services.commands.context import CliContext, reads_settings

app = typer.Typer(help="The topics of the events, answers and labels.", no_args_is_help=True)


@app.command()
@reads_settings
def create(context: CliContext) -> None:
    """Create the topics that do not exist yet; what exists stays as it is. Exits with 75 when no broker answers."""
    from services.settings import BadSettings
    from wire.bus import Bus

    config = context.process().bus
    if not config.bootstrap_servers:
        raise BadSettings("bus.bootstrap_servers: is required; it names the broker")
    with closing(Bus(config, client_id="topics")) as bus:
        bus.create_topics()


@app.command()
@reads_settings
def describe(context: CliContext) -> None:
    """Print the AsyncAPI 3 document of the topics, as JSON: what is sent on each, by whom, and in which form."""
    from services.asyncapi import document_of

    print(json.dumps(document_of(context.process().bus.prefix), indent=2))
