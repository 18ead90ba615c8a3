"""Stores exported models under build/bench, and provides the texts that calibrate them.

There is one model for each version of its library and of the weights. Static quantization measures the range of every
activation on the calibration texts, none of which is timed.
"""

import fcntl
import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

from bench.harness.process import BUILD
from bench.peers.rectangles import Ids, pad
from bench.peers.workloads import calibration_texts, fill_to_length
from model.strata import Strata
from model.tokenizer import TextTokenizer


def folder(name: str) -> Path:
    path = BUILD / "bench" / "peers" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def model_folder(library: str, strata: Strata) -> Path:
    """Returns the folder of `strata` exported for the installed version of `library`.

    Raises ImportError if the library is not installed.
    """
    digest = hashlib.sha256()
    for tensor in strata.state_dict().values():
        digest.update(tensor.numpy())
    return folder(f"{library}-{importlib.metadata.version(library)}-{digest.hexdigest()[:12]}")


def cached(path: Path, make: Callable[[Path], None]) -> Path:
    """Returns `path`; calls `make` first if it does not exist. A lock keeps two processes from making it twice."""
    with (path.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            make(unfinished)
            # A model may have a second file with its weights.
            for part in path.parent.glob(f"{unfinished.stem}.*"):
                os.replace(part, part.with_name(part.name.removeprefix("unfinished-")))
    return path


ENCODER = "minilm-l6"
NUM_NATURAL = 270
LONG = (64, 128, 128, 256, 512) * 6
"""The lengths of the long calibration texts. Without long texts the cosine at 512 tokens is 0.986 instead of 0.996."""

NUM_BATCHES = NUM_NATURAL + len(LONG)


def calibration_batches() -> Iterator[tuple[Ids, Ids]]:
    """Yields ids_BT and mask_BT of one text at a time: NUM_NATURAL texts of natural length, and one of each of LONG."""
    token_ids = TextTokenizer.from_encoder(ENCODER).encode_many(calibration_texts(NUM_NATURAL))
    yield from (pad([ids]) for ids in token_ids)
    sources = cycle(token_ids)
    for length in LONG:
        yield pad(fill_to_length(list(islice(sources, length)), 1, length))
