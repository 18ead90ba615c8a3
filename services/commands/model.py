"""`lifelong model ...`: other members of the family, made of an encoder, and what they cost.

The flags of the longer commands are records that `reads_settings` fills.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines, progress

if TYPE_CHECKING:
    from services.members.adopt import Stored
    from services.members.source import Made, Say


Texts = Annotated[
    list[str],
    typer.Option("--texts", metavar="NAME|PATH", help="Data set, folder of lines, or .txt; may be repeated"),
]
MaxTexts = Annotated[int, typer.Option("--max-texts", min=1, help="Texts that are looked at")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Draws the texts")]

app = typer.Typer(help="Make a smaller encoder of another one, and count what it costs.", no_args_is_help=True)

REFUSED = 1
"""Exit code where the learner refuses an encoder."""

EncoderArgument = Annotated[str, typer.Argument(metavar="ENCODER", help="minilm-l6, a folder, or a cached id")]

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that is written; there must be none")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertFlags:
    """What `convert` changes; 0 and none change nothing."""

    kv_heads: Annotated[int, typer.Option("--kv-heads", min=0, help="Heads of keys and values in each layer")] = 0
    embed_dim: Annotated[int, typer.Option("--embed-dim", min=0, help="Width of the token embedding")] = 0
    positions: Annotated[
        int, typer.Option("--positions", min=0, help="Tokens of the longest text: learned positions are repeated")
    ] = 0
    span: Annotated[
        list[str],
        typer.Option("--span", metavar="KIND,NAME=N..", help="As local,window=64,sinks=4 or topk,topk=8"),
    ] = field(default_factory=list)
    enough: Annotated[float, typer.Option("--enough", min=0, max=1, help="Attention that a span must leave")] = 0.95
    texts: Texts = field(default_factory=list)
    max_texts: MaxTexts = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneFlags:
    """How many heads go, and which tasks say which."""

    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Share of all heads that go")] = 0.4
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME|PATH", help="Data set, or folder of lines with labels; may be repeated"),
    ] = field(default_factory=list)
    max_texts: MaxTexts = 1_000
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptFlags:
    """What the service gets besides the encoder, and how long to wait for the learner."""

    features: Annotated[
        int,
        typer.Option("--features", min=0, help="Random features of the head [default: as before]", show_default=False),
    ] = 0
    capacity: Annotated[
        int, typer.Option("--capacity", min=0, help="Most classes [default: as before]", show_default=False)
    ] = 0
    max_loss: Annotated[
        float | None,
        typer.Option("--max-loss", min=0, max=1, help="Accuracy that may be lost [default: as any version]"),
    ] = None
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the decision")] = True
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For how long")] = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillFlags:
    """Whom to learn from, on what, how long and how fast."""

    teacher: Annotated[str, typer.Option("--teacher", metavar="ENCODER", help="Encoder to learn from")] = "minilm-l6"
    texts: Texts = field(default_factory=list)
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training")] = 3_000
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts of a step")] = 32
    rate: Annotated[float, typer.Option("--rate", min=0, help="Learning rate, which falls to 0")] = 5e-4
    rounded: Annotated[bool, typer.Option("--rounded", help="Train through the rounding of the kernels")] = False
    every: Annotated[float, typer.Option("--every", min=0, help="Seconds between two checkpoints")] = 60
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the processor")] = 1
    seed: Seed = 0


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
    from services.members.source import described, lines

    config = read_published(encoder_folder(encoder)).config
    lengths = tokens or [16, 128, config.max_sequence]
    if as_json:
        print(json.dumps(described(config, lengths), indent=2))
        return
    for line in lines(config, lengths):
        echo(line)


@app.command()
@reads_settings
def convert(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: ConvertFlags, as_json: JsonOption = False
) -> None:
    """Repeat positions, narrow the embedding, group keys and values, give heads spans: as far as options say so."""
    from services.members.change import ConvertOptions, span_of
    from services.members.change import convert as run

    options = ConvertOptions(
        kv_heads=flags.kv_heads,
        embed_dim=flags.embed_dim,
        positions=flags.positions,
        spans=tuple(map(span_of, flags.span)),
        enough=flags.enough,
        texts=tuple(flags.texts),
        max_texts=flags.max_texts,
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
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: PruneFlags, as_json: JsonOption = False
) -> None:
    """Remove the attention heads that matter least to the tasks."""
    from services.members.change import PruneOptions, remove_heads

    options = PruneOptions(share=flags.share, tasks=tuple(flags.task), max_texts=flags.max_texts, seed=flags.seed)
    data = context.load().settings.data
    _report(lambda say: remove_heads(encoder, out, options, data=data, say=say), as_json)


@app.command()
@reads_settings
def distill(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: DistillFlags, as_json: JsonOption = False
) -> None:
    """Let an encoder learn from another one, on texts without labels. Goes on from OUT.checkpoint after a kill."""
    from lifelong.compress.distillation import DistillOptions
    from services.members.change import TeacherOptions, distil

    lesson = TeacherOptions(teacher=flags.teacher, texts=tuple(flags.texts), every_s=flags.every, threads=flags.threads)
    options = DistillOptions(
        steps=flags.steps, batch=flags.batch, rate=flags.rate, rounded=flags.rounded, seed=flags.seed
    )
    data = context.load().settings.data
    _report(lambda say: distil(encoder, out, lesson, options, data=data, say=say), as_json)


@app.command()
def quantize(
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    int4: Annotated[bool, typer.Option("--int4", help="INT4 alone, without the INT8 around it")] = False,
    as_json: JsonOption = False,
) -> None:
    """Round an encoder to the weights that are served, and compare their vectors with the source's."""
    from services.members.adopt import quantize as run

    _report(lambda say: run(encoder, out, is_int4=int4, say=say), as_json)


@app.command()
def export(encoder: EncoderArgument, out: OutArgument, *, as_json: JsonOption = False) -> None:
    """Write the plain encoder that computes the same, with layers of its own for everything."""
    from services.members.change import export as run

    _report(lambda say: run(encoder, out, say=say), as_json)


@app.command()
@reads_settings
def adopt(
    context: CliContext,
    encoder: Annotated[
        str | None, typer.Argument(metavar="[ENCODER]", help="minilm-l6, a folder, or a cached id; the one in use")
    ] = None,
    *,
    flags: AdoptFlags,
    as_json: JsonOption = False,
) -> None:
    """Hand an encoder, or another head, to the running service, which goes on answering and learning meanwhile.

    The learner makes its head of what it has learnt so far, measures both on samples that it never learnt, and refuses
    an encoder that is worse: then nothing has changed, and this command exits with 1. Else it publishes versions with
    it, which the rollout tries and promotes or withdraws as after a slow round.
    """
    from contextlib import closing

    from model.tokenizer import TextTokenizer
    from services.commands.rollout import user_name
    from services.members.adopt import AdoptOptions, Decided, offer
    from services.operator_commands import await_outcome
    from services.profiles.profile import after_restart, changed_profile, restart_lines
    from services.programs import open_store
    from wire.records import EncoderOffer

    settings = context.attached()
    options = AdoptOptions(num_features=flags.features, label_capacity=flags.capacity, max_loss=flags.max_loss)
    tokenizer = TextTokenizer.from_encoder(settings.encoder, max_tokens=settings.serving.max_tokens)
    with closing(open_store(settings)) as store, progress() as say:
        made = offer(
            store, encoder, options, learner=settings.learner, tokenizer=tokenizer, say=say, source=user_name()
        )
        if not flags.wait:
            echo(json.dumps({"command": made.seq}) if as_json else f"Offered, as command {made.seq}.")
            return
        found = Decided(await_outcome(store, made, timeout_s=flags.timeout, say=say))
    profile = None if found.is_refused else changed_profile(settings, made.read(EncoderOffer).config)
    waiting = after_restart(settings, profile) if profile else {}
    lines = found.lines() + (restart_lines(settings, profile) if profile else [])
    echo(*(json_lines(found.fields() | {"after_restart": waiting}) if as_json else lines))
    if found.is_refused:
        raise typer.Exit(REFUSED)


def _report(run: "Callable[[Say], Made | Stored]", as_json: bool) -> None:
    """Runs a command and prints what it has made. What is under way is shown on standard error."""
    with progress() as say:
        made = run(say)
    if as_json:
        print(json.dumps(made.fields(), indent=2))
        return
    for line in made.lines():
        echo(line)
