"""`lifelong bench learn`: compares learning strategies on a data set."""

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
    names: Annotated[bool, typer.Option("--list", help="List the data sets and the strategies, and exit")] = False,
) -> None:
    """Compare strategies that learn a data set stage by stage: final accuracy, and forgetting."""
    from services.bench.command import run, show_names

    if names:
        show_names()
    else:
        run(context.process(), options)
