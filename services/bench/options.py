"""The options of `lifelong bench learn`, besides the settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnOptions:
    """The flags of `lifelong bench learn`; those that are settings are in `Settings`."""

    data: Annotated[str, typer.Option("--data", metavar="NAME|PATH", help="Data set; --list names them")] = "support"
    strategies: Annotated[
        list[str],
        typer.Option(
            "--strategy",
            metavar="NAME|PATH",
            help="Also avalanche-NAME, module:Class(argument=value). May be repeated [default: ours beside the usual]",
            show_default=False,
        ),
    ] = field(default_factory=list)
    split: Annotated[
        str, typer.Option("--split", metavar="test|val", help="What is tested: the test or the validation items")
    ] = "test"
    buffer: Annotated[int | None, typer.Option("--buffer", min=0, help="Samples that may be kept")] = None
    passes: Annotated[
        float | None,
        typer.Option("--passes", min=1.0, help="Gradients for each sample [default: those of lifelong, else an epoch]"),
    ] = None
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each strategy, each with a seed")] = 1
    flip: Annotated[float, typer.Option("--flip", min=0.0, max=1.0, help="Share of wrong training labels")] = 0.0
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write a line for each run here")] = None
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the learning curves (PNG)")] = None
