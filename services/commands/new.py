"""`lifelong new encoder`: code of your own to begin with, which runs as it is."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.output import echo

app = typer.Typer(no_args_is_help=True, help="Write code of your own to begin with.")


@app.callback()
def new() -> None:
    """Keep `encoder` a command of its own: typer would run a group of one command by the name of the group."""


@app.command()
def encoder(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the Python module, such as digits")],
    folder: Annotated[
        Path, typer.Option("--folder", exists=True, file_okay=False, help="Where it is written")
    ] = Path(),
) -> None:
    """Write an encoder for images, its test, and the settings that name it: any torch module can take its place."""
    from services.templates.writing import write_encoder

    for path in write_encoder(name, folder):
        echo(str(path))
    echo(f"Run it from its folder: PYTHONPATH=. lifelong up --config {name}.toml")
