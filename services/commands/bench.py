"""`lifelong bench learn`."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.context import CliContext, reads_settings

app = typer.Typer(help="Measure on your own data.", no_args_is_help=True)


@app.command()
@reads_settings
def learn(
    context: CliContext,
    *,
    data: Annotated[str, typer.Option("--data", metavar="NAME|PATH", help="Data set; --list names them")] = "support",
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            metavar="NAME|PATH",
            help="Also avalanche-NAME, module:Class(argument=value). May be repeated [default: ours beside the usual]",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="test|val", help="What is tested: the test or the validation items")
    ] = "test",
    buffer: Annotated[int | None, typer.Option("--buffer", min=1, help="Samples that may be kept")] = None,
    passes: Annotated[
        float | None,
        typer.Option("--passes", min=1.0, help="Gradients for each sample [default: those of lifelong, else an epoch]"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each strategy, each with a seed")] = 1,
    flip: Annotated[float, typer.Option("--flip", min=0.0, max=1.0, help="Share of wrong training labels")] = 0.0,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write a line for each run here")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the learning curves (PNG)")] = None,
    names: Annotated[bool, typer.Option("--list", help="Name the data sets and strategies, and end")] = False,
) -> None:
    """Teach a data set stage by stage to several strategies; what they know in the end, and what they forgot."""
    from services.bench.command import LearnOptions, run, show_names

    if names:
        show_names()
        return
    options = LearnOptions(
        data=data,
        strategies=tuple(strategy or ()),
        seeds=seeds,
        split=split,
        buffer=buffer,
        passes=passes,
        flip=flip,
        json=json,
        plot=plot,
    )
    run(context.process(), options)
