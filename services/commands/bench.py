"""`lifelong bench learn`."""

from typing import Annotated

import typer

from services.bench.options import LearnOptions
from services.commands.context import CliContext, reads_settings

app = typer.Typer(help="Measure on your own data.", no_args_is_help=True)


@app.command()
@reads_settings
def learn(
    context: CliContext,
    *,
    options: LearnOptions,
    names: Annotated[bool, typer.Option("--list", help="Name the data sets and strategies, and end")] = False,
) -> None:
    """Teach a data set stage by stage to several strategies; what they know in the end, and what they forgot."""
    from services.bench.command import run, show_names

    if names:
        show_names()
    else:
        run(context.process(), options)
