"""`lifelong encoder check`, `train` and `lifelong new encoder`: check or train an encoder, or write a template for one.

`train` makes an encoder of pictures, sounds and texts, or a table of vectors of tokens, from data sets, and keeps it in
the state folder.
The check says whether an encoder computes the vectors that were published for it, or the vectors of its class, and how
fast it is on this machine. The template that `new` writes runs unchanged.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.exits import CONFIGURATION
from services.commands.output import echo, json_lines, progress

if TYPE_CHECKING:
    from rich.table import Table

    from services.encoder_check import EncoderCheck


app = typer.Typer(no_args_is_help=True, help="Encoders other than MiniLM.")

EncoderArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ENCODER", help="Folder, cached model id, minilm-l6, or module:Class [default: the setting `encoder`]"
    ),
]
VectorsOption = Annotated[
    Path | None,
    typer.Option(
        "--vectors",
        metavar="FILE",
        help='Published vectors, one {"text": .., "vector": [..]} a line [default: vectors.jsonl in the folder]',
        exists=True,
        dir_okay=False,
    ),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticFlags:
    """The teacher and the texts of a static encoder, and the size of its table."""

    teacher: Annotated[str, typer.Option("--teacher", metavar="ENCODER", help="static: imitate it")] = "minilm-l6"
    texts: Annotated[
        list[str],
        typer.Option(
            "--texts", metavar="NAME|PATH", help="static: data set, folder of text lines, or .txt file; may be repeated"
        ),
    ] = field(default_factory=list)
    width: Annotated[int, typer.Option("--width", min=1, help="static: numbers of a vector")] = 256
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="static: rows for frequent pairs of tokens")] = 12_288
    steps: Annotated[int, typer.Option("--steps", min=1, help="static: training steps of 256 texts")] = 1_500
    rate: Annotated[float, typer.Option("--rate", min=0, help="static: learning rate; it decays to 0")] = 1e-3


new_app = typer.Typer(no_args_is_help=True, help="Write a template for code of your own.")


@app.command()
@reads_settings
def check(
    context: CliContext, encoder: EncoderArgument = None, vectors: VectorsOption = None, as_json: JsonOption = False
) -> None:
    """Check an encoder: compare it with published vectors, quantize it, and time it. Exits with 78 if it is wrong."""
    import torch

    from model.source import is_import_path
    from services import encoder_check

    settings = context.process()
    torch.set_num_threads(settings.serving.threads)
    name = encoder or settings.encoder
    if is_import_path(name):
        _check_module(name, as_json=as_json)
        return
    with progress() as say:
        result = encoder_check.check(name, vectors=vectors, say=say)
    if as_json:
        print(json.dumps(dataclasses.asdict(result) | {"is_right": result.is_right}, indent=2))
    else:
        _print(result)
    if not result.is_right:
        sys.stdout.flush()
        raise typer.Exit(CONFIGURATION)


@app.command()
@reads_settings
def train(
    context: CliContext,
    name: Annotated[Literal["digits", "static"], typer.Argument(metavar="digits|static", help="Encoder to train")],
    *,
    without_labels: Annotated[
        bool, typer.Option("--without-labels", help="digits: do not use labels to pair pictures with sounds and texts")
    ] = False,
    flags: StaticFlags,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws initial weights, batches and views")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder and keep it in the state folder. A killed training resumes.

    digits: pictures, sounds and texts, from MNIST and FSDD. static: a table of vectors of tokens, which imitates
    --teacher on --texts without labels.
    """
    from learner.errors import DataError
    from lifelong.compress.contrastive import PAIRS, PretrainOptions
    from lifelong.compress.static import StaticOptions
    from services.members.texts import FOLDER
    from services.members.train import train_digits, train_static

    settings = context.process()
    try:
        with progress() as say:
            if name == "static":
                sizes = StaticOptions(
                    width=flags.width, pairs=flags.pairs, steps=flags.steps, rate=flags.rate, seed=seed
                )
                folder = settings.state_dir / FOLDER
                found = train_static(flags.teacher, flags.texts, sizes, data=settings.data, folder=folder, say=say)
            else:
                options = PretrainOptions(pairs=() if without_labels else PAIRS, seed=seed)
                found = train_digits(options, data=settings.data, state_dir=settings.state_dir, say=say)
    except DataError as error:
        echo(str(error), is_error=True)
        raise typer.Exit(CONFIGURATION) from error
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    echo(f"trained in {found.seconds:.0f} s" if found.is_new else "trained before", found.folder)
    echo(f"Use it: lifelong up --set encoder={found.folder}")


def _check_module(path: str, *, as_json: bool) -> None:
    from services.encoder_check import check_module

    result = check_module(path)
    echo(*(json_lines(result.fields()) if as_json else result.lines()))
    if not result.is_right:
        sys.stdout.flush()
        raise typer.Exit(CONFIGURATION)


def _print(result: "EncoderCheck") -> None:
    from rich.console import Console

    shape = result.shape
    prompts = f" (prompts: {', '.join(result.prompts)})" if result.prompts else ""
    normalised = "normalised" if result.normalize else "not normalised"
    rows = {
        "folder": result.folder,
        "shape": f"{result.kind}: {shape['layers']} layers of {shape['width']}, {shape['heads']} heads, "
        f"{shape['inner']} inside, {shape['parameters'] / 1e6:.1f} M parameters",
        "layers": result.parts,
        "tokenizer": f"{result.tokenizer} of {shape['vocabulary']} tokens; "
        f"texts of at most {result.max_tokens} tokens, {shape['positions']} positions",
        "vectors": f"pooling {result.pooling}, {normalised}, prefix {result.prefix!r}{prompts}",
        "published": _published(result),
        "kernels": f"torch's: {'; '.join(result.not_native)}" if result.not_native else "native",
    }
    for name, text in rows.items():
        echo(f"{name:<10} {text}")
    Console().print(_table(result))


def _published(result: "EncoderCheck") -> str:
    agreement = result.published
    if agreement is None:
        return "no vectors to compare with; see --vectors"
    outcome = "right" if agreement.is_right else "WRONG"
    return (
        f"{outcome}: of {agreement.texts} vectors, the lowest cosine is {agreement.lowest_cosine:.6f}, "
        f"and lengths differ by up to {agreement.length_error:.2%}"
    )


def _table(result: "EncoderCheck") -> "Table":
    from rich.table import Table

    threads = f"{result.threads} thread" + ("s" if result.threads > 1 else "")
    title = f"ms of a batch of texts x tokens, with {threads}; cosines to full precision"
    shown = Table("precision", title=title, title_justify="left")
    for column in ("MB", "lowest cosine", "mean cosine", *result.precisions[0].ms):
        shown.add_column(column, justify="right")
    for precision in result.precisions:
        cosines = (f"{precision.agreement.lowest_cosine:.4f}", f"{precision.agreement.mean_cosine:.4f}")
        times = (f"{ms:.2f}" for ms in precision.ms.values())
        shown.add_row(precision.name, f"{precision.num_bytes / 1e6:.1f}", *cosines, *times)
    return shown


@new_app.callback()
def new() -> None:
    """Keeps `encoder` a subcommand: typer would give a group with one command the name of the group."""


@new_app.command("encoder")
def new_encoder(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the Python module, such as digits")],
    folder: Annotated[Path, typer.Option("--folder", exists=True, file_okay=False, help="Folder to write to")] = Path(),
) -> None:
    """Write an image encoder, its test, and its settings, as a template: any torch module can take its place."""
    from services.templates.writing import write_encoder

    for path in write_encoder(name, folder):
        echo(str(path))
    echo(f"Run it from its folder: PYTHONPATH=. lifelong up --config {name}.toml")
