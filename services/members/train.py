"""Trains the encoder of pictures, sounds and texts on digits: `lifelong encoder train digits`.

    MNIST, FSDD, sentences --digits_data--> MediaData --Pretraining.step ...--> STATE_DIR/encoders/digits-KEY

The key of the folder is a digest of data and options, so an encoder is trained once. A kill costs at most CHECKPOINT_S
of training: the same command goes on from the checkpoint, and the result has the same bits as without the kill.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from evals.streams.digits import digits_data
from lifelong.compress.contrastive import Pretraining, PretrainOptions, pretraining_key
from lifelong.compress.distillation import resume, write_checkpoint
from model.media.encoder import MediaConfig
from model.media.family import CONFIG, encoder_files
from services.members.source import Say
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
    path = folder.with_name(f"{folder.name}.checkpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    if resume(path, training, key):
        say(f"resuming after step {training.num_done}")
    written_s = time.monotonic()
    while not training.is_done:
        loss = training.step()
        say(progress(training, loss))
        if time.monotonic() - written_s >= CHECKPOINT_S:
            write_checkpoint(path, training, key)
            written_s = time.monotonic()
    folder.mkdir(exist_ok=True)
    made = {"data": "MNIST, FSDD, sentences", "key": key, "options": asdict(options)}
    for name, content in encoder_files(training.whole, training.stems, made).items():
        with atomic_write(folder / name, is_synced=True) as file:
            file.write(content)
    path.unlink(missing_ok=True)
    return Trained(folder=str(folder), is_new=True, seconds=time.monotonic() - began_s)


def progress(training: Pretraining, loss: float) -> str:
    """Returns the progress after a step, as a line of text."""
    return f"{training.phase}: step {training.num_done} of {training.num_steps}, loss {loss:.3f}"
