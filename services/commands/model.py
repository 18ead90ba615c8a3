"""`lifelong model ...`: other members of the family, made of an encoder, and what they cost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines
from services.members.flags import AdoptFlags, ConvertFlags, DistillFlags, PruneFlags
from services.progress import progress

if TYPE_CHECKING:
    from services.members.source import Made, Say
    from services.members.stored import Stored

app = typer.Typer(help="Make a smaller encoder of another one, and count what it costs.", no_args_is_help=True)

REFUSED = 1
"""Exit code where the learner refuses an encoder."""

EncoderArgument = Annotated[str, typer.Argument(metavar="ENCODER", help="minilm-l6, a folder, or a cached id")]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that is written; there must be none")]


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
        echo(line)


@app.command()
@reads_settings
def convert(
    context: CliContext, encoder: EncoderArgument, out: OutArgument, *, flags: ConvertFlags, as_json: JsonOption = False
) -> None:
    """Repeat positions, narrow the embedding, group keys and values, give heads spans: as far as options say so."""
    from services.members.change import ConvertOptions
    from services.members.change import convert as run
    from services.members.spans import span_of

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
    from learner.distillation import DistillOptions
    from services.members.distil import TeacherOptions, distil

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
    from services.members.stored import quantize as run

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
    from services.members.adopt import AdoptOptions, offer
    from services.members.decision import decision_of
    from services.profiles.profile import after_restart, changed_profile, restart_lines
    from services.programs import open_store

    settings = context.attached()
    options = AdoptOptions(num_features=flags.features, label_capacity=flags.capacity, max_loss=flags.max_loss)
    tokenizer = TextTokenizer.from_encoder(settings.encoder, max_tokens=settings.serving.max_tokens)
    with closing(open_store(settings)) as store, progress() as say:
        made = offer(store, encoder, options, learner=settings.learner, tokenizer=tokenizer, say=say)
        if not flags.wait:
            echo(json.dumps({"offer": made.id}) if as_json else f"Offered, as {made.id}.")
            return
        found = decision_of(store, made, timeout_s=flags.timeout, say=say)
    profile = None if found.is_refused else changed_profile(settings, made.config)
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
