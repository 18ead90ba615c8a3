"""`lifelong topics`: the topics on a broker that is not ours. `lifelong up` and `demo` make them by themselves."""

from contextlib import closing

import typer

from services.commands.context import CliContext, reads_settings

app = typer.Typer(help="The topics of the events, answers and labels.", no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Keep `create` a command of its own: typer would run a group of one command by the name of the group."""


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
