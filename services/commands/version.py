"""`lifelong --version`: the option that stands before every command."""

import importlib.metadata
from typing import Annotated

import typer

from services.commands.output import echo


def _show(is_wanted: bool) -> None:
    if is_wanted:
        echo(f"lifelong {importlib.metadata.version('lifelong')}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show, help="Show the version and end.")
    ] = False,
) -> None:
    """Accept the options of `lifelong` itself."""
