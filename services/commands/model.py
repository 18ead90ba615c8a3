"""`lifelong model ...`: make a smaller or faster encoder from another one, and count its costs.

The options of the longer commands are dataclasses, which `reads_settings` fills.
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
    from services.members.rung import WithRung
    from services.members.source import Made, Say


Texts = Annotated[
    list[str],
    typer.Option("--texts", metavar="NAME|PATH", help="Data set, folder of text lines, or .txt file; may be repeated"),
]
MaxTexts = Annotated[int, typer.Option("--max-texts", min=1, help="Largest number of texts to use")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Training steps")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="Texts per step")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="Learning rate; it decays to 0")]
Every = Annotated[float, typer.Option("--every", min=0, help="Seconds between checkpoints")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed by which texts are drawn")]

app = typer.Typer(help="Make a smaller encoder from another one, and count its costs.", no_args_is_help=True)

REFUSED = 1
"""Exit code if the learner refuses an encoder."""

EncoderArgument = Annotated[str, typer.Argument(metavar="ENCODER", help="minilm-l6, a folder, or a cached model id")]

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it must not exist")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertFlags:
    """What `convert` changes. An option that is 0 or not given changes nothing."""

    kv_heads: Annotated[int, typer.Option("--kv-heads", min=0, help="Key-value heads in each layer")] = 0
    embed_dim: Annotated[int, typer.Option("--embed-dim", min=0, help="Width of the token embedding")] = 0
    positions: Annotated[
        int, typer.Option("--positions", min=0, help="Tokens of the longest text; learned positions are repeated")
    ] = 0
    span: Annotated[
        list[str],
        typer.Option("--span", metavar="KIND,NAME=N..", help="Such as local,window=64,sinks=4 or topk,topk=8"),
    ] = field(default_factory=list)
    enough: Annotated[
        float, typer.Option("--enough", min=0, max=1, help="Share of the attention that a span must keep")
    ] = 0.95
    texts: Texts = field(default_factory=list)
    max_texts: MaxTexts = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneFlags:
    """What is removed: heads, which the tasks choose, or blocks of weights, while the encoder learns from `--texts`."""

    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Share of all heads to remove")] = 0.4
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME|PATH", help="Data set, or folder with labelled lines; may be repeated"),
    ] = field(default_factory=list)
    max_texts: MaxTexts = 1_000
    sparse: Annotated[
        float,
        typer.Option(
            "--sparse", min=0, max=1, help="Instead: share of the feed-forward weights to make zero", show_default=False
        ),
    ] = 0.0
    texts: Texts = field(default_factory=list)
    steps: Steps = 1_000
    batch: BatchSize = 32
    rate: Rate = 2e-4
    every: Every = 60
    threads: Threads = 1
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptFlags:
    """What changes together with the encoder, and how long to wait for the learner."""

    features: Annotated[
        int,
        typer.Option("--features", min=0, help="Random features of the head [default: unchanged]", show_default=False),
    ] = 0
    capacity: Annotated[
        int, typer.Option("--capacity", min=0, help="Most classes [default: unchanged]", show_default=False)
    ] = 0
    max_loss: Annotated[
        float | None,
        typer.Option("--max-loss", min=0, max=1, help="Accuracy that may be lost [default: as for any version]"),
    ] = None
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the learner's decision")] = True
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Longest time to wait")] = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillFlags:
    """The teacher, the texts, and the length and the rate of the training."""

    teacher: Annotated[str, typer.Option("--teacher", metavar="ENCODER", help="Encoder to learn from")] = "minilm-l6"
    texts: Texts = field(default_factory=list)
    steps: Steps = 3_000
    batch: BatchSize = 32
    rate: Rate = 5e-4
    rounded: Annotated[
        bool, typer.Option("--rounded", help="Train with the rounding of the kernels (quantization-aware)")
    ] = False
    every: Every = 60
    threads: Threads = 1
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
    """Show the shape of an encoder, and its numbers of parameters, bytes and operations."""
    from model.published import read_published
    from model.source import encoder_folder
    from services.members.source import cost_lines, shape_and_costs

    config = read_published(encoder_folder(encoder)).config
    lengths = tokens or [16, 128, config.max_sequence]
    if as_json:
        print(json.dumps(shape_and_costs(config, lengths), indent=2))
        return
    for line in cost_lines(config, lengths):
        echo(line)


@app.command()
@reads_settings
def convert(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: ConvertFlags, as_json: JsonOption = False
) -> None:
    """Change an encoder by the given options: repeat positions, narrow the embedding, group key-value heads, limit the
    spans of attention heads."""
    from services.members.change import ConvertOptions, parse_span
    from services.members.change import convert as run

    options = ConvertOptions(
        kv_heads=flags.kv_heads,
        embed_dim=flags.embed_dim,
        positions=flags.positions,
        spans=tuple(map(parse_span, flags.span)),
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
    attention: Annotated[
        str, typer.Option("--attention", metavar="TIES", help="Such as aabbcc: layers with equal letters share")
    ],
    ffn: Annotated[str, typer.Option("--ffn", metavar="TIES", help="The same for the feed-forward layers")],
    rank: Annotated[
        int, typer.Option("--rank", min=0, help="Rank of each layer's own addition to a shared matrix (LoRA)")
    ] = 16,
    mean: Annotated[
        bool, typer.Option("--mean", help="Start from the mean of the layers instead of one of them")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tie layers: they share matrices, and each layer adds a matrix of low rank."""
    from services.members.change import ShareOptions, tie

    options = ShareOptions(attention=attention, ffn=ffn, rank=rank, start="mean" if mean else "pick")
    _report(lambda say: tie(encoder, out, options, say=say), as_json)


@app.command()
@reads_settings
def prune(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: PruneFlags, as_json: JsonOption = False
) -> None:
    """Remove the attention heads that matter least to the tasks, or, with --sparse, most of the feed-forward weights.

    With --sparse, the encoder learns from its former self on --texts, without labels, while weights become zero in
    blocks. It continues from OUT.checkpoint after a kill.
    """
    from lifelong.compress.distillation import DistillOptions
    from services.members.change import PruneOptions, TeacherOptions, remove_heads, sparsify

    data = context.load().settings.data
    if flags.sparse:
        lesson = TeacherOptions(teacher=encoder, texts=tuple(flags.texts), every_s=flags.every, threads=flags.threads)
        training = DistillOptions(steps=flags.steps, batch=flags.batch, rate=flags.rate, seed=flags.seed)
        _report(lambda say: sparsify(encoder, out, flags.sparse, lesson, training, data=data, say=say), as_json)
        return
    options = PruneOptions(share=flags.share, tasks=tuple(flags.task), max_texts=flags.max_texts, seed=flags.seed)
    _report(lambda say: remove_heads(encoder, out, options, data=data, say=say), as_json)


@app.command()
@reads_settings
def distill(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: DistillFlags, as_json: JsonOption = False
) -> None:
    """Train an encoder to imitate another one, on texts without labels. Continues from OUT.checkpoint after a kill."""
    from lifelong.compress.distillation import DistillOptions
    from services.members.change import TeacherOptions, distil

    lesson = TeacherOptions(teacher=flags.teacher, texts=tuple(flags.texts), every_s=flags.every, threads=flags.threads)
    options = DistillOptions(
        steps=flags.steps, batch=flags.batch, rate=flags.rate, rounded=flags.rounded, seed=flags.seed
    )
    data = context.load().settings.data
    _report(lambda say: distil(encoder, out, lesson, options, data=data, say=say), as_json)


@app.command()
@reads_settings
def rung(
    context: CliContext,
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    texts: Texts,
    steps: Steps = 1_500,
    pairs: Annotated[int, typer.Option("--pairs", min=0, help="Rows for frequent pairs of tokens")] = 12_288,
    seed: Seed = 0,
    as_json: JsonOption = False,
) -> None:
    """Add a table of token vectors to an encoder, for brown-outs: it imitates the encoder on --texts, without labels.

    An overloaded replica answers in the table, as the precision `static`, if the learner has measured that a version
    loses at most serving.precision.brown_out_accuracy_loss in it. Continues after a kill.
    """
    from lifelong.compress.static import StaticOptions
    from services.members.rung import add_rung
    from services.members.texts import FOLDER

    settings = context.load().settings
    options = StaticOptions(steps=steps, pairs=pairs, seed=seed)
    folder = settings.state_dir / FOLDER
    _report(lambda say: add_rung(encoder, out, texts, options, data=settings.data, folder=folder, say=say), as_json)


@app.command()
def quantize(
    encoder: EncoderArgument,
    out: OutArgument,
    *,
    int4: Annotated[bool, typer.Option("--int4", help="Only INT4, without the INT8 weights around it")] = False,
    as_json: JsonOption = False,
) -> None:
    """Round an encoder to the weights that are served, and compare its vectors with the source encoder's."""
    from services.members.adopt import quantize as run

    _report(lambda say: run(encoder, out, is_int4=int4, say=say), as_json)


@app.command()
def export(encoder: EncoderArgument, out: OutArgument, *, as_json: JsonOption = False) -> None:
    """Write an equivalent plain encoder, in which no layers share weights."""
    from services.members.change import export as run

    _report(lambda say: run(encoder, out, say=say), as_json)


@app.command()
@reads_settings
def adopt(
    context: CliContext,
    encoder: Annotated[
        str | None, typer.Argument(metavar="[ENCODER]", help="As for `show` [default: the encoder in use]")
    ] = None,
    *,
    flags: AdoptFlags,
    as_json: JsonOption = False,
) -> None:
    """Offer an encoder, or another head, to the running service, which answers and learns meanwhile.

    The learner trains a head for it from its memory, and measures both encoders on samples that neither has learnt. If
    the new encoder is worse, the learner refuses it, nothing changes, and this command exits with 1. Otherwise it
    publishes versions with the encoder, which the rollout tries, promotes or withdraws as after a slow round.
    """
    from contextlib import closing

    from model.encoders import open_inputs
    from services.commands.rollout import user_name
    from services.members.adopt import AdoptOptions, Decided, offer
    from services.operator_commands import await_outcome
    from services.profiles.profile import after_restart, changed_profile, restart_lines
    from services.programs import open_store
    from wire.records import EncoderOffer

    settings = context.attached()
    options = AdoptOptions(num_features=flags.features, label_capacity=flags.capacity, max_loss=flags.max_loss)
    tokenizer = open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
    with closing(open_store(settings)) as store, progress() as say:
        command = offer(
            store, encoder, options, learner=settings.learner, tokenizer=tokenizer, say=say, source=user_name()
        )
        if not flags.wait:
            echo(json.dumps({"command": command.seq}) if as_json else f"Offered, as command {command.seq}.")
            return
        decided = Decided(await_outcome(store, command, timeout_s=flags.timeout, say=say))
    profile = None if decided.is_refused else changed_profile(settings, command.read(EncoderOffer).config)
    waiting = after_restart(settings, profile) if profile else {}
    lines = decided.lines() + (restart_lines(settings, profile) if profile else [])
    echo(*(json_lines(decided.fields() | {"after_restart": waiting}) if as_json else lines))
    if decided.is_refused:
        raise typer.Exit(REFUSED)


def _report(run: "Callable[[Say], Made | Stored | WithRung]", as_json: bool) -> None:
    """Runs a command, and prints its result. Progress goes to standard error."""
    with progress() as say:
        made = run(say)
    if as_json:
        print(json.dumps(made.fields(), indent=2))
        return
    for line in made.lines():
        echo(line)
