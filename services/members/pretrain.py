"""Pretrains an encoder on texts without labels, and keeps it in the state folder: `lifelong pretrain`.

    files, data sets, the topic of events --select--> texts, each once --MixedPretraining.step ...-->
        STATE_DIR/encoders/text-KEY: config.json, tokenizer.json, model.safetensors, seen.json

The key of the folder is a digest of the start, the texts and the options, so an encoder is trained once. A kill costs
at most `every_s` of training: the same command goes on from the checkpoint, and the result has the same bits as
without the kill.

`seen.json` has the digests of the texts and of their subjects (`services.members.texts`), and the training's curve.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from evals.streams.stream import StreamItem
from evals.streams.text_sets import text_set
from learner.errors import DataError
from lifelong.compress.distillation import resume, write_checkpoint
from lifelong.compress.heads import LabelledTexts, class_means
from lifelong.compress.pretrain import (
    SHAPE,
    CurvePoint,
    MixedPretraining,
    MixOptions,
    key_of_pretraining,
    mask_id_of,
    new_encoder,
    new_tokenizer,
)
from model.config import StrataConfig
from model.member import Member, write_member
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from services.members.source import BATCH, Say, history_step, open_source, texts_of
from services.members.texts import FOLDER, SEEN, Selected, SourcedText, seen_of
from wire.files import atomic_write

SHOTS: Final = 5
"""Texts of each class that the probe learns from."""

PROBE_TEXTS: Final = 1_000
"""The most test texts of the probe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRequest:
    """What is trained, from which start, and how it is watched. `encoder` "" starts from random weights."""

    encoder: str = ""
    shape: StrataConfig = SHAPE
    """The shape of an encoder that starts from random weights."""
    probe: str = ""
    """The data set on which the curve is measured; "" measures none."""
    every_s: float = 60.0
    """Seconds between checkpoints."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A pretrained encoder. `is_new` is false if it was in the state folder already."""

    folder: str
    is_new: bool
    texts: Mapping[str, int]
    tokens: int
    flops: float
    curve: Sequence[CurvePoint] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        return asdict(self) | {"curve": [point._asdict() for point in self.curve]}

    def lines(self) -> Iterator[str]:
        counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in self.texts.items() if number)
        yield f"texts: {counts}"
        yield f"trained on {self.tokens:,} tokens, {self.flops / 1e12:.2f} TFLOP"
        if self.curve:
            yield f"{'tokens':>12} {'TFLOP':>8} {'minutes':>8} {'score, %':>8}"
        for point in self.curve:
            yield f"{point.tokens:12,.0f} {point.flops / 1e12:8.2f} {point.minutes:8.2f} {point.score:8.2f}"
        yield self.folder


def texts_of_files(names: Iterable[str], data: Path | None) -> Iterator[SourcedText]:
    """Yields the training texts of data sets and files; the source of a text is the name. Raises DataError."""
    for name in names:
        for text in texts_of(name, data):
            yield SourcedText(text, name)


def pretrain(
    selected: Selected, request: PretrainRequest, options: MixOptions, *, data: Path | None, state_dir: Path, say: Say
) -> Pretrained:
    """Returns the encoder of these texts and options, and trains it if it is not in the state folder.

    Raises DataError, WrongConfig, the errors of the encoder's files, and StateRefused for a damaged checkpoint.
    """
    texts = [each.text for each in selected.texts]
    if not texts:
        raise DataError(f"no texts to train on ({selected.counts}); name files or data sets, or --from-topic")
    torch.set_num_threads(request.threads)
    strata, tokenizer_json, history = _start(request, texts, options, say)
    tokenizer = TextTokenizer(tokenizer_json, max_tokens=strata.config.max_sequence, prefix=strata.config.prefix)
    token_ids = tokenizer.encode_many(texts)
    # The curve is part of the result, so the probe is part of the key.
    key = sha256(f"{key_of_pretraining(strata, token_ids, options)}\n{request.probe}".encode()).hexdigest()
    folder = state_dir / FOLDER / f"text-{key[:12]}"
    if folder.exists():
        return _read(folder)
    probe = None
    if request.probe:
        say(f"reading {request.probe}")
        whole = text_set(request.probe, data)
        probe = few_shot_probe(whole.train, whole.test, tokenizer, seed=options.seed)
    training = MixedPretraining(strata, token_ids, mask_id_of(tokenizer_json), options, probe=probe)
    checkpoint = folder.with_name(f"{folder.name}.checkpoint")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run(training, checkpoint, key, every_s=request.every_s, say=say)
    made = Pretrained(
        folder=str(folder),
        is_new=True,
        texts=selected.counts,
        tokens=training.tokens,
        flops=training.flops,
        curve=training.curve,
    )
    step = history_step("pretrain", asdict(options) | {"encoder": request.encoder, "key": key})
    member = Member(config=strata.config, max_tokens=strata.config.max_sequence, history=(*history, step))
    _write(folder, member, strata, tokenizer_json, seen_of(selected) | {"made": made.fields()})
    checkpoint.unlink(missing_ok=True)
    return made


def run(training: MixedPretraining, checkpoint: Path, key: str, *, every_s: float, say: Say) -> None:
    """Takes all steps of a training, and resumes it from its checkpoint after a kill. Raises StateRefused."""
    if resume(checkpoint, training, key):
        say(f"resuming after step {training.num_done}")
    began_s = written_s = time.monotonic()
    first = training.num_done
    while not training.is_done:
        objective, loss = training.step()
        now_s = time.monotonic()
        left_s = (now_s - began_s) / (training.num_done - first) * (training.num_steps - training.num_done)
        say(progress_line(training, objective, loss, left_s=left_s))
        if now_s - written_s >= every_s:
            write_checkpoint(checkpoint, training, key)
            written_s = now_s


def progress_line(training: MixedPretraining, objective: str, loss: float, *, left_s: float) -> str:
    """Returns the progress after a step, as a line of text."""
    score = f", score {training.curve[-1].score:.1f}" if training.curve else ""
    return (
        f"step {training.num_done} of {training.num_steps}: {objective} {loss:.3f}{score},"
        f" {math.ceil(left_s / 60)} min left"
    )


def few_shot_probe(
    train: Sequence[StreamItem],
    test: Sequence[StreamItem],
    tokenizer: TextTokenizer,
    *,
    shots: int = SHOTS,
    seed: int = 0,
    max_test: int = PROBE_TEXTS,
) -> Callable[[Strata], float]:
    """Returns a function that scores an encoder: the accuracy in percent of class means of `shots` random texts each.

    Classes are compared by the cosine with the mean (prototypes: Snell et al., arXiv 1703.05175).
    """
    draw = torch.Generator().manual_seed(seed)
    drawn = [train[row] for row in torch.randperm(len(train), generator=draw).tolist()]
    classes = sorted({item.label for item in train})
    by_class: dict[str, list[StreamItem]] = {label: [] for label in classes}
    for item in drawn:
        if len(by_class[item.label]) < shots:
            by_class[item.label].append(item)
    rows = {label: row for row, label in enumerate(classes)}
    learnt = [item for items in by_class.values() for item in items]
    asked = [test[row] for row in torch.randperm(len(test), generator=draw).tolist()[:max_test]]
    shown = LabelledTexts(tokenizer.encode_many([item.text for item in learnt]), _labels(learnt, rows))
    asked_ids = tokenizer.encode_many([item.text for item in asked])
    asked_labels_B = _labels(asked, rows)

    @torch.no_grad()
    def score(strata: Strata) -> float:
        z_BD = encode_many(strata, asked_ids, batch_size=8 * BATCH)
        is_right_B = (z_BD @ class_means(strata, shown).T).argmax(dim=1) == asked_labels_B
        return 100 * float(is_right_B.double().mean())

    return score


def _labels(items: Sequence[StreamItem], rows: Mapping[str, int]) -> Tensor:
    # A test item of an unknown class is never right.
    return torch.tensor([rows.get(item.label, -1) for item in items])


def _start(
    request: PretrainRequest, texts: Sequence[str], options: MixOptions, say: Say
) -> tuple[Strata, bytes, tuple[Mapping[str, Any], ...]]:
    """Returns the encoder before the training, its tokenizer.json, and its history."""
    if request.encoder:
        source = open_source(request.encoder)
        return source.strata, source.tokenizer_json, source.history
    say(f"training a vocabulary of {request.shape.vocab} tokens")
    tokenizer_json = new_tokenizer(texts, size=request.shape.vocab)
    return new_encoder(request.shape, seed=options.seed), tokenizer_json, ()


def _write(folder: Path, member: Member, strata: Strata, tokenizer_json: bytes, seen: Mapping[str, Any]) -> None:
    """Writes the folder under another name, then renames it, so that it is never there without its files."""
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    write_member(draft, member, strata.requires_grad_(False), tokenizer_json)
    with atomic_write(draft / SEEN, is_synced=True) as file:
        file.write(json.dumps(seen).encode())
    draft.rename(folder)


def _read(folder: Path) -> Pretrained:
    made = json.loads((folder / SEEN).read_text())["made"]
    curve = [CurvePoint(**point) for point in made["curve"]]
    return Pretrained(**(made | {"folder": str(folder), "is_new": False, "curve": curve}))
