"""`lifelong model ...`: other members of the family, made of an encoder, and what they cost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings

if TYPE_CHECKING:
    from services.members.source import Made, Say
    from services.members.stored import Stored

app = typer.Typer(help="Make a smaller encoder of another one, and count what it costs.", no_args_is_help=True)

EncoderArgument = Annotated[str, typer.Argument(metavar="ENCODER", help="minilm-l6, a folder, or a cached id")]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that is written; there must be none")]
TextsOption = Annotated[
    list[str] | None,
    typer.Option("--texts", metavar="NAME|PATH", help="Data set, folder of lines, or .txt; may be repeated"),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME|PATH", help="Data set, or folder of lines with labels; may be repeated"),
]
LimitOption = Annotated[int, typer.Option("--max-texts", min=1, help="Texts that are looked at")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Draws the texts")]


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
    from model.bert import shape_of
    from services.members.show import described, lines

    config = shape_of(encoder)
    lengths = tokens or [16, 128, config.max_sequence]
    if as_json:
        print(json.dumps(described(config, lengths), indent=2))
        return
    for line in lines(config, lengths):
        print(line)


@app.command()
@reads_settings
def convert(
    context: CliContext,
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    kv_heads: Annotated[int, typer.Option("--kv-heads", min=0, help="Heads of keys and values in each layer")] = 0,
    embed_dim: Annotated[int, typer.Option("--embed-dim", min=0, help="Width of the token embedding")] = 0,
    span: Annotated[
        list[str] | None,
        typer.Option("--span", metavar="KIND,NAME=N..", help="As local,window=64,sinks=4 or topk,topk=8"),
    ] = None,
    enough: Annotated[float, typer.Option("--enough", min=0, max=1, help="Attention that a span must leave")] = 0.95,
    texts: TextsOption = None,
    max_texts: LimitOption = 2_000,
    as_json: JsonOption = False,
) -> None:
    """Narrow the embedding, group the heads of keys and values, and give heads spans, as far as options say so."""
    from services.members.change import ConvertOptions
    from services.members.change import convert as run
    from services.members.spans import span_of

    options = ConvertOptions(
        kv_heads=kv_heads,
        embed_dim=embed_dim,
        spans=tuple(map(span_of, span or ())),
        enough=enough,
        texts=tuple(texts or ()),
        max_texts=max_texts,
    )
    data = context.load().settings.data
    _report(lambda say: run(encoder, out, options, data=data, say=say), as_json)


@app.command()
def share(
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    attention: Annotated[str, typer.Option("--attention", metavar="TIES", help="As aabbcc: equal letters share")],
    ffn: Annotated[str, typer.Option("--ffn", metavar="TIES", help="The same for the feed-forward part")],
    rank: Annotated[int, typer.Option("--rank", min=0, help="Rank of what a layer adds to a shared matrix")] = 16,
    mean: Annotated[
        bool, typer.Option("--mean", help="Start from the mean of the layers, not from one of them")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tie layers: they use the same matrices, and each adds one of low rank."""
    from services.members.change import ShareOptions, tie

    options = ShareOptions(attention=attention, ffn=ffn, rank=rank, start="mean" if mean else "pick")
    _report(lambda say: tie(encoder, out, options, say=say), as_json)


@app.command()
@reads_settings
def prune(
    context: CliContext,
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Share of all heads that go")] = 0.4,
    task: TaskOption = None,
    max_texts: LimitOption = 1_000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Remove the attention heads that matter least to the tasks."""
    from services.members.change import PruneOptions, remove_heads

    options = PruneOptions(share=share, tasks=tuple(task or ()), max_texts=max_texts, seed=seed)
    data = context.load().settings.data
    _report(lambda say: remove_heads(encoder, out, options, data=data, say=say), as_json)


@app.command()
@reads_settings
def distill(
    context: CliContext,
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    teacher: Annotated[str, typer.Option("--teacher", metavar="ENCODER", help="Encoder to learn from")] = "minilm-l6",
    texts: TextsOption = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training")] = 3_000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts of a step")] = 32,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Learning rate, which falls to 0")] = 5e-4,
    rounded: Annotated[bool, typer.Option("--rounded", help="Train through the rounding of the kernels")] = False,
    every: Annotated[float, typer.Option("--every", min=0, help="Seconds between two checkpoints")] = 60,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the processor")] = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Let an encoder learn from another one, on texts without labels. Goes on from OUT.checkpoint after a kill."""
    from learner.distill.distiller import DistillOptions
    from services.members.distil import TeacherOptions, distil

    lesson = TeacherOptions(teacher=teacher, texts=tuple(texts or ()), every_s=every, threads=threads)
    options = DistillOptions(steps=steps, batch=batch, rate=rate, rounded=rounded, seed=seed)
    data = context.load().settings.data
    _report(lambda say: distil(encoder, out, lesson, options, data=data, say=say), as_json)


@app.command()
def quantize(encoder: EncoderArgument, out: OutArgument, *, as_json: JsonOption = False) -> None:
    """Round an encoder to the weights that are served, and compare their vectors with the source's."""
    from services.members.stored import quantize as run

    _report(lambda say: run(encoder, out, say=say), as_json)


@app.command()
def export(encoder: EncoderArgument, out: OutArgument, *, as_json: JsonOption = False) -> None:
    """Write the plain encoder that computes the same, with layers of its own for everything."""
    from services.members.change import export as run

    _report(lambda say: run(encoder, out, say=say), as_json)


def _report(run: "Callable[[Say], Made | Stored]", as_json: bool) -> None:
    """Runs a command and prints what it has made. What is under way is shown on standard error."""
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        made = run(status.update)
    if as_json:
        print(json.dumps(made.fields(), indent=2))
        return
    for line in made.lines():
        print(line)
