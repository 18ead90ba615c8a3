"""The commands that change an encoder: convert, share, prune and export by arithmetic, distill and prune by learning.

Each command checks its options, opens the encoder, changes it, and writes the result (`services.members.source`).

    student, teacher, texts --Distiller.step ...--> OUT        OUT.checkpoint, every minute until OUT is written

`prune --sparse` is a distillation in which blocks of the student become zero. A distillation takes minutes to hours.
After a kill, the same command resumes from the checkpoint, which costs at most a minute of training. The result has the
same bits as without the kill.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from lifelong.compress.cost import num_bytes
from lifelong.compress.distillation import Distiller, DistillOptions, Losses, key_of, resume
from lifelong.compress.distillation import write_checkpoint as write_checkpoint
from lifelong.compress.heads import head_importance, prune, select
from lifelong.compress.plain import to_dense, write_published
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads, repeat_positions
from lifelong.compress.share import Start, parse_ties, share
from lifelong.compress.spans import allocate, measure_heads, with_crossover
from lifelong.compress.sparsity import SparseDistiller, Sparsity, attach_sparse_grids
from model.calibration import grams, smooth
from model.config import Span
from model.errors import WrongConfig
from model.grid import Grid, attach_grids
from model.weights import encoder_tensors
from services.members.source import (
    Made,
    Say,
    compare_to_source,
    labelled,
    mean_cosine,
    open_source,
    require_free,
    unlabelled,
    write,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertOptions:
    """The changes of `convert`. 0 and () change nothing."""

    kv_heads: int = 0
    embed_dim: int = 0
    positions: int = 0
    spans: tuple[Span, ...] = ()
    enough: float = 0.95
    """A head gets only a span that keeps at least this fraction of its attention."""
    texts: tuple[str, ...] = ()
    """Data sets with the texts for the counts of tokens and the measurement of attention."""
    max_texts: int = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareOptions:
    """Which layers share matrices: a letter for each layer, and equal letters share."""

    attention: str
    ffn: str
    rank: int = 16
    start: Start = "pick"


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneOptions:
    """The share of heads to remove, and the tasks that determine the importance of a head."""

    share: float = 0.4
    tasks: tuple[str, ...] = field(default_factory=tuple)
    max_texts: int = 1_000
    seed: int = 0


def convert(encoder: str, out: Path, options: ConvertOptions, *, data: Path | None, say: Say) -> Made:
    """Repeats positions, narrows the embedding, groups keys and values, and gives heads spans.

    Raises WrongConfig or DataError.
    """
    require_free(out)
    if options.positions and len(options.spans) > 1:
        raise WrongConfig("--positions gives every head the same span of long texts; name one --span")
    source = open_source(encoder)
    token_ids: list[list[int]] = []
    measured = () if options.positions else options.spans
    if options.texts or measured:
        say("reading the texts")
        token_ids = unlabelled(options.texts, data, source.tokenizer)[: options.max_texts]
    strata = source.strata
    if options.positions:
        strata = repeat_positions(strata, options.positions, *options.spans)
        source = replace(source, max_tokens=options.positions)
    if measured:
        say(f"measuring the attention of {len(token_ids)} texts")
        use = measure_heads(strata, token_ids, measured)
        say("measuring from which length on the spans are faster than all keys here")
        spans = [with_crossover(span, strata.config) for span in measured]
        strata = allocate(strata, use, spans, enough=options.enough)
    if options.embed_dim:
        say("factorising the embedding")
        counts_V = _counts(token_ids, strata.config.vocab) if token_ids else None
        strata = factorise_embedding(strata, options.embed_dim, counts_V=counts_V)
    if options.kv_heads:
        strata = pool_kv_heads(strata, options.kv_heads)
    return write(source, strata, out, "convert", asdict(options))


def tie(encoder: str, out: Path, options: ShareOptions, *, say: Say) -> Made:
    """Writes the encoder with layers that are tied together, so that they share matrices. Raises WrongConfig."""
    require_free(out)
    source = open_source(encoder)
    num_layers = source.strata.config.n_layers
    say("tying the layers")
    strata = share(
        source.strata,
        parse_ties(options.attention, num_layers),
        parse_ties(options.ffn, num_layers),
        rank=options.rank,
        start=options.start,
    )
    return write(source, strata, out, "share", asdict(options))


def remove_heads(encoder: str, out: Path, options: PruneOptions, *, data: Path | None, say: Say) -> Made:
    """Writes the encoder without the heads that matter least to the tasks. Raises WrongConfig or DataError."""
    require_free(out)
    if not 0 < options.share < 1:
        raise WrongConfig(f"share is {options.share}; expected a number between 0 and 1")
    source = open_source(encoder)
    tasks = labelled(options.tasks, data, source.tokenizer, max_texts=options.max_texts, seed=options.seed)
    say(f"measuring the heads on {sum(len(task.token_ids) for task in tasks)} texts")
    kept = select(source.strata, head_importance(source.strata, tasks), options.share)
    kept_heads = {str(layer): list(heads) for layer, heads in kept.items()}
    return write(source, prune(source.strata, kept), out, "prune", asdict(options) | {"kept": kept_heads})


def export(encoder: str, out: Path, *, say: Say) -> Made:
    """Writes the encoder in the published format, without shared matrices. Raises WrongConfig if that is impossible."""
    require_free(out)
    source = open_source(encoder)
    say("expanding shared matrices")
    strata = to_dense(source.strata)
    write_published(out, strata, source.tokenizer_json, max_tokens=source.tokenizer.max_tokens)
    served_bytes = num_bytes(strata.config)
    return compare_to_source(source, strata.config, out, num_bytes=served_bytes, cosine=mean_cosine(source, strata))


def _counts(token_ids: Sequence[list[int]], vocab: int) -> Tensor:
    return torch.bincount(torch.cat(list(map(torch.tensor, token_ids))), minlength=vocab)


def parse_span(text: str) -> Span:
    """Returns the span of attention that an option such as `local,window=64,sinks=4` means. Raises WrongConfig.

    >>> parse_span("local,window=64,sinks=4").window
    64
    """
    kind, *settings = text.split(",")
    values: dict[str, int] = {}
    names = [field.name for field in fields(Span) if field.name != "kind"]
    for setting in settings:
        name, _, number = setting.partition("=")
        if name not in names or not number.isdecimal():
            raise WrongConfig(f"span {text!r}: {setting!r} is none of {', '.join(names)} with a number after =")
        values[name] = int(number)
    return Span(kind=kind, **values)  # type: ignore[arg-type]  # Span refuses other kinds


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherOptions:
    """The teacher and the texts of a distillation, and the interval between checkpoints."""

    teacher: str
    texts: tuple[str, ...]
    every_s: float = 60.0
    threads: int = 1


def distil(
    encoder: str, out: Path, lesson: TeacherOptions, options: DistillOptions, *, data: Path | None, say: Say
) -> Made:
    """Trains the encoder and writes the result.

    First the scales of the inputs are chosen again for the present weights, except for matrices with a grid. If the
    training is quantization-aware (`options.rounded`), every matrix gets a grid, and the weights on it are written.

    Raises WrongConfig, DataError, and StateRefused if the checkpoint is of another distillation.
    """
    require_free(out)
    torch.set_num_threads(lesson.threads)
    source = open_source(encoder)
    token_ids = unlabelled(lesson.texts, data, source.tokenizer)
    teacher = open_source(lesson.teacher).strata
    student = open_source(encoder).strata.requires_grad_(True)
    smooth(student, grams(student, source.tokenizer))
    if options.rounded:
        attach_grids(student, encoder_tensors(student))
    distiller = Distiller(student, teacher, token_ids, options)
    path = _run(distiller, key_of(student, teacher, token_ids, options), out, lesson.every_s, say=say)
    made = write(source, student.requires_grad_(False), out, "distill", asdict(lesson) | asdict(options))
    path.unlink(missing_ok=True)
    return made


def sparsify(
    encoder: str,
    out: Path,
    share: float,
    lesson: TeacherOptions,
    options: DistillOptions,
    *,
    data: Path | None,
    say: Say,
) -> Made:
    """Makes `share` of the blocks of the feed-forward matrices zero while the encoder learns from `lesson.teacher`.

    The stored weights are written: sparse INT8 for these matrices, and INT8 with INT4 inside for the others, rounded
    for the calibration texts. Raises like `distil`.
    """
    require_free(out)
    if not 0 < share < 1:
        raise WrongConfig(f"sparse is {share}; expected a number between 0 and 1")
    torch.set_num_threads(lesson.threads)
    source = open_source(encoder)
    token_ids = unlabelled(lesson.texts, data, source.tokenizer)
    teacher = open_source(lesson.teacher).strata
    student = open_source(encoder).strata.requires_grad_(True)
    if any(isinstance(module, Grid) for module in student.modules()):
        raise WrongConfig(f"{encoder} is rounded to a grid already; prune the encoder that it was made from")
    gram_by_name = grams(student, source.tokenizer)
    smooth(student, gram_by_name)
    moments = {name: gram_KK.diagonal().clone() for name, gram_KK in gram_by_name.items()}
    distiller = SparseDistiller(student, teacher, token_ids, options, Sparsity(share=share, moments=moments))
    key = f"{key_of(student, teacher, token_ids, options)} {share}"
    path = _run(distiller, key, out, lesson.every_s, say=say)
    attach_sparse_grids(student.requires_grad_(False), distiller.masks)
    say("rounding the weights")
    scaled_grams = smooth(student, grams(student, source.tokenizer))
    facts = {"sparse": share} | asdict(lesson) | asdict(options)
    made = write(source, student, out, "prune", facts, grams=scaled_grams)
    path.unlink(missing_ok=True)
    return made


def _run(distiller: Distiller, key: str, out: Path, every_s: float, *, say: Say) -> Path:
    """Takes all steps of a distillation, and returns the path of its checkpoint, from which it resumes after a kill.

    Raises StateRefused if the checkpoint is of another distillation.
    """
    path = out.with_name(f"{out.name}.checkpoint")
    out.parent.mkdir(parents=True, exist_ok=True)
    if resume(path, distiller, key):
        say(f"resuming after step {distiller.num_done}")
    written_s = time.monotonic()
    while not distiller.is_done:
        losses = distiller.step()
        shown = progress(distiller.num_done, distiller.num_steps, losses)
        if isinstance(distiller, SparseDistiller):
            shown += f", {distiller.share:.0%} of the blocks zero"
        say(shown)
        if time.monotonic() - written_s >= every_s:
            write_checkpoint(path, distiller, key)
            written_s = time.monotonic()
    return path


def progress(num_done: int, num_steps: int, losses: Losses) -> str:
    """Returns the progress after a step, as a line of text.

    >>> progress(3, 10, Losses(0.25, 0.5))
    'step 3 of 10: cosine 0.7500, layers 0.500'
    """
    return f"step {num_done} of {num_steps}: cosine {1 - losses.cosine:.4f}, layers {losses.layers:.3f}"
