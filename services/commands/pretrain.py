"""`lifelong pretrain`: trains an encoder on texts without labels, from nothing or from another encoder."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings, stop_signal
from services.commands.model import Every, Seed, Texts, Threads
from services.commands.output import echo, json_lines, progress

if TYPE_CHECKING:
    from lifelong.compress.pretrain import Mix
    from services.settings import Settings
    from wire.bus import Bus
    from wire.keyring import KeyRing
    from wire.store import Store

DEFAULT_MIX = "masked=6,causal=1,contrast=6,replaced=3"

NICENESS = 19
"""The lowest priority: a stage must not delay answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainFlags:
    """The texts, the objectives, and the length and the rate of the training."""

    texts: Texts = field(default_factory=list)
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="The texts of the events of the running service, without labels")
    ] = False
    on_drift: Annotated[
        bool,
        typer.Option("--on-drift", help="Run until stopped: pretrain and adopt whenever the texts of the events move"),
    ] = False
    new_texts: Annotated[
        int, typer.Option("--new-texts", min=1, help="With --on-drift: texts after the change to wait for")
    ] = 2_000
    leave_out: Annotated[
        list[str],
        typer.Option(
            "--leave-out", metavar="NAME|PATH", help="Texts that must not be learnt: a data set's test texts, or lines"
        ),
    ] = field(default_factory=list)
    max_texts: Annotated[int, typer.Option("--max-texts", min=1, help="Most texts; the last ones are kept")] = 100_000
    per_source: Annotated[int, typer.Option("--per-source", min=1, help="Most texts of one source")] = 20_000
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Length of the training, in tokens")] = 2_000_000
    mix: Annotated[
        str, typer.Option("--mix", metavar="NAME=N,..", help="Weights of the objectives, by their number of steps")
    ] = DEFAULT_MIX
    first_layer: Annotated[
        int, typer.Option("--first-layer", min=0, help="First layer to train; 0 trains the embedding, too")
    ] = 0
    rate: Annotated[
        float,
        typer.Option("--rate", min=0, help="Learning rate [default: 1e-3, or 5e-5 from ENCODER]", show_default=False),
    ] = 0.0
    probe: Annotated[
        list[str], typer.Option("--probe", metavar="NAME|PATH", help="Labelled set for a curve of 5-shot accuracy")
    ] = field(default_factory=list)
    every: Every = 60
    threads: Threads = 1
    seed: Seed = 0


@reads_settings
def pretrain(
    context: CliContext,
    encoder: Annotated[
        str, typer.Argument(metavar="[ENCODER]", help="Encoder to start from [default: a small one, random]")
    ] = "",
    *,
    flags: PretrainFlags,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder on texts without labels. A killed training resumes. Example: lifelong pretrain --texts clinc150

    Each text counts once. The result is a folder in the state folder, named by a digest of texts and options.
    """
    from lifelong.compress.pretrain import MixOptions
    from services.members.domain import erased_subjects, texts_of_events
    from services.members.pretrain import PretrainRequest, texts_of_files
    from services.members.pretrain import pretrain as run
    from services.members.source import texts_to_leave_out
    from services.members.texts import Limits, select

    if flags.from_topic + flags.on_drift + bool(flags.texts) != 1:
        raise typer.BadParameter("give --texts or --from-topic, and not both, or --on-drift alone")
    if flags.on_drift:
        if encoder:
            raise typer.BadParameter("--on-drift begins with the encoder of the service: leave ENCODER out")
        _follow(context, flags)
        return
    mix = parse_mix(flags.mix)
    settings = context.process()
    limits = Limits(max_texts=flags.max_texts, per_source=flags.per_source)
    # The probe's test texts must not be learnt, either.
    left_out = [text for name in (*flags.leave_out, *flags.probe) for text in texts_to_leave_out(name, settings.data)]
    with progress() as say:
        say("reading the texts")
        if flags.from_topic:
            with _service(context) as (_, bus, stores, ring):
                texts = texts_of_events(bus, ring)
                selected = select(texts, limits, left_out=left_out, erased=erased_subjects(stores))
        else:
            selected = select(texts_of_files(flags.texts, settings.data), limits, left_out=left_out)
        request = PretrainRequest(encoder=encoder, probe=tuple(flags.probe), every_s=flags.every, threads=flags.threads)
        options = MixOptions(
            tokens=flags.tokens,
            mix=mix,
            first_layer=flags.first_layer,
            rate=flags.rate or (5e-5 if encoder else 1e-3),
            seed=flags.seed,
        )
        made = run(selected, request, options, data=settings.data, state_dir=settings.state_dir, say=say)
    echo(*(json_lines(made.fields()) if as_json else made.lines()))
    if not as_json:
        echo(f"Use it: lifelong encoder check {made.folder}; lifelong model adopt {made.folder}")


@contextmanager
def _service(context: CliContext) -> Iterator[tuple["Settings", "Bus", Sequence["Store"], "KeyRing"]]:
    """Yields the settings of the running service, its bus, the stores of its tasks, and its keys."""
    from services.keys import key_ring
    from services.programs import open_bus, open_stores

    settings = context.attached()
    with ExitStack() as opened:
        stores = open_stores(settings, opened)
        bus = opened.enter_context(closing(open_bus(settings, "pretrain")))
        yield settings, bus, list(stores.values()), key_ring(settings)


def _follow(context: CliContext, flags: PretrainFlags) -> None:
    """Watches the events of the running service until SIGTERM or SIGINT, and pretrains when their texts have moved."""
    import torch

    from services.members.domain import DomainStages, StageOptions
    from wire.threads import lower_priority

    torch.set_num_threads(flags.threads)
    lower_priority(NICENESS)
    options = StageOptions(new_texts=flags.new_texts)
    with _service(context) as (settings, bus, stores, ring), progress() as say:
        DomainStages(settings, bus, stores, ring, options, say=say).run(stop_signal())


def parse_mix(text: str) -> "Mix":
    """Returns the weights of the objectives that `--mix` gives; the others have 0. Raises BadParameter."""
    from lifelong.compress.pretrain import OBJECTIVES, Mix

    weights = dict.fromkeys(OBJECTIVES, 0)
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in weights or not number.isdecimal():
            raise typer.BadParameter(f"{part!r}: expected one of {', '.join(OBJECTIVES)}, =, and a number")
        weights[name] = int(number)
    return Mix(**weights)
