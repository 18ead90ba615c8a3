"""The options of `lifelong bench learn`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnOptions:
    """The options of `lifelong bench learn`, except those that are settings (`services.settings`)."""

    data: Annotated[str, typer.Option("--data", metavar="NAME|PATH", help="Data set; --list shows them")] = "support"
    strategies: Annotated[
        list[str],
        typer.Option(
            "--strategy",
            metavar="NAME|PATH",
            help="A listed name, avalanche-NAME or module:Class(x=1); may be repeated [default: ours and common ones]",
            show_default=False,
        ),
    ] = field(default_factory=list)
    split: Annotated[
        str, typer.Option("--split", metavar="test|val", help="Items to test on: the test or the validation split")
    ] = "test"
    buffer: Annotated[int | None, typer.Option("--buffer", min=0, help="Samples in the replay buffer")] = None
    passes: Annotated[
        float | None,
        typer.Option(
            "--passes", min=1.0, help="Sample gradients per item [default: as many as lifelong takes, else one epoch]"
        ),
    ] = None
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each strategy, each with its own seed")] = 1
    flip: Annotated[float, typer.Option("--flip", min=0.0, max=1.0, help="Share of wrong training labels")] = 0.0
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write one JSON line per run")] = None
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the learning curves (PNG)")] = None
