"""`lifelong model ...`: other members of the family, made of an encoder, and what they cost."""

import json
from typing import Annotated

import typer

from services.commands.context import JsonOption

app = typer.Typer(help="Make a smaller encoder of another one, and count what it costs.", no_args_is_help=True)

EncoderArgument = Annotated[str, typer.Argument(metavar="ENCODER", help="minilm-l6, a folder, or a cached id")]


@app.command()
def show(
    encoder: EncoderArgument,
    *,
    tokens: Annotated[
        list[int] | None, typer.Option("--tokens", min=1, help="Length of a text; may be repeated")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the shape of an encoder, and count its parameters, bytes and operations."""
    from model.published import read_published
    from model.source import encoder_folder
    from services.members.show import described, lines

    config = read_published(encoder_folder(encoder)).config
    lengths = tokens or [16, 128, config.max_sequence]
    if as_json:
        print(json.dumps(described(config, lengths), indent=2))
        return
    for line in lines(config, lengths):
        print(line)
