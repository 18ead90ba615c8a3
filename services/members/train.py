"""Trains encoders of other families than the built-in one: `lifelong encoder train digits` and `... static`.

    MNIST, FSDD, sentences --digits_data--> MediaData --Pretraining.step ...--> STATE_DIR/encoders/digits-KEY
    teacher, texts --make_lesson--> Lesson --StaticDistiller.step ...--> STATE_DIR/encoders/static-KEY

The key of the folder is a digest of data and options, so an encoder is trained once. A kill costs at most CHECKPOINT_S
of training: the same command goes on from the checkpoint, and the result has the same bits as without the kill. (The
vectors of a static encoder's teacher are computed again: a minute and a half for 50,000 short texts on one core.)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from evals.streams.digits import digits_data
from learner.encoder.base import lower_digests
from lifelong.compress.contrastive import Pretraining, PretrainOptions, pretraining_key
from lifelong.compress.distillation import Resumable, resume, write_checkpoint
from lifelong.compress.static import StaticDistiller, StaticOptions, distillation_key, make_lesson
from model.media.encoder import MediaConfig
from model.media.family import CONFIG, encoder_files
from model.quantized import QuantizedEncoder
from model.static import encoder_files as static_files
from model.weights import encoder_tensors
from services.members.source import Say, history_step, open_source, unlabelled
from services.members.texts import FOLDER
from wire.files import atomic_write

CHECKPOINT_S: Final = 15.0

THREADS: Final = 2
"""Fixed, because the order of additions depends on it, and so do the bits of the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trained encoder. `is_new` is false if it was in the state folder already."""

    folder: str
    is_new: bool
    seconds: float


def train_digits(
    options: PretrainOptions, *, data: Path | None, state_dir: Path, say: Say, config: MediaConfig | None = None
) -> Trained:
    """Returns the encoder of digits with these options, and trains it if it is not in the state folder.

    Raises DataError if data is missing, and StateRefused for a damaged checkpoint.
    """
    config = config or MediaConfig()
    say("reading MNIST and FSDD")
    known = digits_data(data)
    key = pretraining_key(known, config, options)
    folder = state_dir / FOLDER / f"digits-{key[:12]}"
    if (folder / CONFIG).exists():
        return Trained(folder=str(folder), is_new=False, seconds=0.0)
    began_s = time.monotonic()
    torch.set_num_threads(THREADS)
    training = Pretraining(known, config, options)
    path = _trained(training, folder, key, lambda: progress(training, training.step()), training.num_steps, say=say)
    made = {"data": "MNIST, FSDD, sentences", "key": key, "options": asdict(options)}
    _write(folder, encoder_files(training.whole, training.stems, made))
    path.unlink(missing_ok=True)
    return Trained(folder=str(folder), is_new=True, seconds=time.monotonic() - began_s)


def train_static(
    teacher: str, texts: Sequence[str], options: StaticOptions, *, data: Path | None, folder: Path, say: Say
) -> Trained:
    """Returns the static encoder that imitates `teacher` on `texts`, and trains it if it is not in `folder`.

    `teacher` is an encoder of the built-in family. `texts` names data sets, folders and files, whose labels are not
    read. Raises DataError, WrongConfig, and StateRefused for a damaged checkpoint.
    """
    source = open_source(teacher)
    strata, tokenizer = source.strata, source.tokenizer
    token_ids = unlabelled(texts, data, tokenizer, spares_tests=True)
    key = distillation_key(f"{lower_digests(strata)[-1]} {tokenizer.digest}", token_ids, options)
    out = folder / f"static-{key[:12]}"
    if (out / CONFIG).exists():
        return Trained(folder=str(out), is_new=False, seconds=0.0)
    began_s = time.monotonic()
    torch.set_num_threads(THREADS)
    packed = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    lesson = make_lesson(packed, tokenizer, token_ids, say=say)
    shape = strata.config
    distiller = StaticDistiller(lesson, options, max_sequence=shape.max_sequence, prefix=shape.prefix)

    def advance() -> str:
        cosine = distiller.step()
        return f"step {distiller.num_done} of {distiller.num_steps}: cosine {cosine:.4f}"

    path = _trained(distiller, out, key, advance, distiller.num_steps, say=say)
    made = history_step("static", {"texts": list(texts), "key": key} | asdict(options))
    _write(out, static_files(distiller.whole, source.tokenizer_json, [*source.history, made]))
    path.unlink(missing_ok=True)
    return Trained(folder=str(out), is_new=True, seconds=time.monotonic() - began_s)


def _trained(
    training: Resumable, folder: Path, key: str, advance: Callable[[], str], num_steps: int, *, say: Say
) -> Path:
    """Takes all steps of a training, and returns the path of its checkpoint, from which it resumes after a kill.

    `advance` takes a step, and returns its progress as a line of text. Raises StateRefused for a damaged checkpoint.
    """
    path = folder.with_name(f"{folder.name}.checkpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    if resume(path, training, key):
        say(f"resuming after step {training.num_done}")
    written_s = time.monotonic()
    while training.num_done < num_steps:
        say(advance())
        if time.monotonic() - written_s >= CHECKPOINT_S:
            write_checkpoint(path, training, key)
            written_s = time.monotonic()
    return path


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files of an encoder in their order: the last one makes the folder complete."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        with atomic_write(folder / name, is_synced=True) as file:
            file.write(content)


def progress(training: Pretraining, loss: float) -> str:
    """Returns the progress after a step, as a line of text."""
    return f"{training.phase}: step {training.num_done} of {training.num_steps}, loss {loss:.3f}"
