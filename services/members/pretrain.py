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
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from evals.streams.text_sets import TextSet, text_set
from learner.errors import DataError
from lifelong.compress.distillation import resume, write_checkpoint
from lifelong.compress.pretrain import (
    SHAPE,
    CurvePoint,
    MixedPretraining,
    MixOptions,
    find_mask_id,
    key_of_pretraining,
    new_encoder,
    new_tokenizer,
)
from model.config import StrataConfig
from model.member import Member, write_member
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from services.members.source import BATCH, Say, history_step, load_texts, open_source
from services.members.texts import FOLDER, SEEN, Selected, SourcedText, remember_texts
from wire.files import atomic_write

SHOTS: Final = 5
"""Texts of each class that the probe learns from."""

DRAWS: Final = 10
"""How often the probe draws these texts."""

PROBE_TEXTS: Final = 1_000
"""The most test texts of a set in the probe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRequest:
    """What is trained, from which start, and how it is watched. `encoder` "" starts from random weights."""

    encoder: str = ""
    shape: StrataConfig = SHAPE
    """The shape of an encoder that starts from random weights."""
    probe: tuple[str, ...] = ()
    """The data sets on which the curve is measured."""
    num_probes: int = 10
    every_s: float = 60.0
    """Seconds between checkpoints."""
    threads: int = 1
    share: float = 1.0
    """The share of the time in which the training computes. In the rest it sleeps."""


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


class Stopped(Exception):
    """A training was stopped between two steps. The next one of the same key goes on from its checkpoint."""


def texts_of_files(names: Iterable[str], data: Path | None) -> Iterator[SourcedText]:
    """Yields the training texts of data sets and files; the source of a text is the name. Raises DataError."""
    for name in names:
        for text in load_texts(name, data):
            yield SourcedText(text, name)


def pretrain(
    selected: Selected,
    request: PretrainRequest,
    options: MixOptions,
    *,
    data: Path | None,
    state_dir: Path,
    say: Say,
    stop: threading.Event | None = None,
) -> Pretrained:
    """Returns the encoder of these texts and options, and trains it if it is not in the state folder.

    Raises Stopped soon after `stop` is set, DataError, WrongConfig, the errors of the encoder's files, and StateRefused
    for a damaged checkpoint.
    """
    texts = [each.text for each in selected.texts]
    if not texts:
        raise DataError(f"no texts to train on ({selected.counts}); name files or data sets, or --from-topic")
    torch.set_num_threads(request.threads)
    strata, tokenizer_json, start = _start(request, texts, options, say)
    tokenizer = TextTokenizer(tokenizer_json, max_tokens=start.max_tokens, prefix=strata.config.prefix)
    token_ids = tokenizer.encode_many(texts)
    # The curve is part of the result, so the probe is part of the key.
    key = sha256(
        f"{key_of_pretraining(strata, token_ids, options)}\n{request.probe} {request.num_probes}".encode()
    ).hexdigest()
    folder = state_dir / FOLDER / f"text-{key[:12]}"
    if folder.exists():
        return _read(folder)
    probe = None
    if request.probe:
        say(f"reading {', '.join(request.probe)}")
        probe = FewShotProbe([text_set(name, data) for name in request.probe], tokenizer)
    training = MixedPretraining(
        strata, token_ids, find_mask_id(tokenizer_json), options, probe=probe, num_probes=request.num_probes
    )
    checkpoint = folder.with_name(f"{folder.name}.checkpoint")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run(training, checkpoint, key, every_s=request.every_s, share=request.share, say=say, stop=stop)
    made = Pretrained(
        folder=str(folder),
        is_new=True,
        texts=selected.counts,
        tokens=training.tokens,
        flops=training.flops,
        curve=training.curve,
    )
    step = history_step("pretrain", asdict(options) | {"encoder": request.encoder, "key": key})
    member = replace(start, history=(*start.history, step))
    _write(folder, member, strata, tokenizer_json, remember_texts(selected) | {"made": made.fields()})
    checkpoint.unlink(missing_ok=True)
    return made


def run(
    training: MixedPretraining,
    checkpoint: Path,
    key: str,
    *,
    every_s: float,
    share: float = 1.0,
    say: Say,
    stop: threading.Event | None = None,
) -> None:
    """Takes all steps of a training, and resumes it from its checkpoint after a kill.

    It computes in a `share` of the time. Raises StateRefused, and Stopped after the step in which `stop` is set.
    """
    stop = stop or threading.Event()
    if resume(checkpoint, training, key):
        say(f"resuming after step {training.num_done}")
    began_s = written_s = time.monotonic()
    first = training.num_done
    while not training.is_done:
        step_s = time.monotonic()
        objective, loss = training.step()
        stop.wait((time.monotonic() - step_s) * (1 / share - 1))
        now_s = time.monotonic()
        left_s = (now_s - began_s) / (training.num_done - first) * (training.num_steps - training.num_done)
        say(progress_line(training, objective, loss, left_s=left_s))
        is_stopped = stop.is_set() and not training.is_done
        if is_stopped or now_s - written_s >= every_s:
            write_checkpoint(checkpoint, training, key)
            written_s = now_s
        if is_stopped:
            raise Stopped(f"stopped after step {training.num_done} of {training.num_steps}")


def progress_line(training: MixedPretraining, objective: str, loss: float, *, left_s: float) -> str:
    """Returns the progress after a step, as a line of text."""
    score = f", score {training.curve[-1].score:.1f}" if training.curve else ""
    return (
        f"step {training.num_done} of {training.num_steps}: {objective} {loss:.3f}{score},"
        f" {math.ceil(left_s / 60)} min left"
    )


class FewShotProbe:
    """Scores an encoder by a few labels: the accuracy in percent of class means of `shots` random texts each.

    The classes are compared by the cosine with the mean (prototypes: Snell et al., arXiv 1703.05175). A score is the
    mean over `num_draws` draws of the texts, which are the same for every encoder.
    """

    def __init__(
        self, sets: Sequence[TextSet], tokenizer: TextTokenizer, *, shots: int = SHOTS, num_draws: int = DRAWS
    ) -> None:
        self._tasks = {each.name: _FewShots.of(each, tokenizer, shots, num_draws) for each in sets}

    def __call__(self, strata: Strata) -> float:
        """Returns the mean score over all sets."""
        scores = self.scores(lambda token_ids: encode_many(strata, token_ids, batch_size=8 * BATCH))
        return sum(scores.values()) / len(scores)

    @torch.no_grad()
    def scores(self, encode: Callable[[list[list[int]]], Tensor]) -> dict[str, float]:
        """Returns the score of each set by its name. `encode` returns the vectors z_BD of texts."""
        return {name: task.score(encode(task.token_ids)) for name, task in self._tasks.items()}


@dataclass(frozen=True, slots=True)
class _FewShots:
    """The texts of one set: of all draws, then `num_test` test texts. The classes are those of the training texts."""

    token_ids: list[list[int]]
    labels_B: Tensor
    draws: Sequence[Tensor]
    """The rows of the texts of each draw."""
    num_test: int

    @classmethod
    def of(cls, whole: TextSet, tokenizer: TextTokenizer, shots: int, num_draws: int) -> "_FewShots":
        rng = torch.Generator().manual_seed(0)
        rows_of_class: dict[str, list[int]] = {label: [] for label in whole.labels}
        for row, item in enumerate(whole.train):
            rows_of_class[item.label].append(row)
        chosen: list[list[int]] = []
        for _ in range(num_draws):
            orders = {label: torch.randperm(len(rows), generator=rng).tolist() for label, rows in rows_of_class.items()}
            chosen.append([rows_of_class[label][place] for label, order in orders.items() for place in order[:shots]])
        used = sorted({row for rows in chosen for row in rows})
        token_places = {row: place for place, row in enumerate(used)}
        test = [whole.test[row] for row in torch.randperm(len(whole.test), generator=rng)[:PROBE_TEXTS].tolist()]
        items = [*(whole.train[row] for row in used), *test]
        class_of = {label: number for number, label in enumerate(rows_of_class)}
        return cls(
            token_ids=tokenizer.encode_many([item.text for item in items]),
            # A test item of an unknown class is never right.
            labels_B=torch.tensor([class_of.get(item.label, -1) for item in items]),
            draws=[torch.tensor([token_places[row] for row in rows]) for rows in chosen],
            num_test=len(test),
        )

    def score(self, z_BD: Tensor) -> float:
        z_BD = functional.normalize(z_BD, dim=1)
        asked_BD, expected_B = z_BD[-self.num_test :], self.labels_B[-self.num_test :]
        num_right = 0
        for rows in self.draws:
            labels_B = self.labels_B[rows]
            sums_CD = torch.zeros(int(labels_B.max()) + 1, z_BD.shape[1]).index_add_(0, labels_B, z_BD[rows])
            predicted_B = (asked_BD @ functional.normalize(sums_CD, dim=1).T).argmax(dim=1)
            num_right += int((predicted_B == expected_B).sum())
        return 100 * num_right / (self.num_test * len(self.draws))


def _start(
    request: PretrainRequest, texts: Sequence[str], options: MixOptions, say: Say
) -> tuple[Strata, bytes, Member]:
    """Returns the encoder before the training, its tokenizer.json, and the contents of its config.json."""
    if request.encoder:
        source = open_source(request.encoder)
        start = Member(config=source.strata.config, max_tokens=source.max_tokens, history=source.history)
        return source.strata, source.tokenizer_json, start
    say(f"training a vocabulary of {request.shape.vocab} tokens")
    start = Member(config=request.shape, max_tokens=request.shape.max_sequence)
    return new_encoder(request.shape, seed=options.seed), new_tokenizer(texts, size=request.shape.vocab), start


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
