"""Caches exported models under build/bench: one for each version of their library and of the weights."""

import fcntl
import hashlib
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

from bench.results import BUILD
from model.strata import Strata


def folder(name: str) -> Path:
    path = BUILD / "bench" / "peers" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def model_folder(library: str, strata: Strata) -> Path:
    """Returns the folder of `strata` as exported for the installed version of `library`. Raises ImportError without."""
    digest = hashlib.sha256()
    for tensor in strata.state_dict().values():
        digest.update(tensor.numpy())
    return folder(f"{library}-{importlib.metadata.version(library)}-{digest.hexdigest()[:12]}")


def cached(path: Path, make: Callable[[Path], None]) -> Path:
    """Returns `path`; calls `make` first if it is not there. Two processes that ask at the same time make it once."""
    with (path.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            make(unfinished)
            for part in path.parent.glob(f"{unfinished.stem}.*"):  # a model may have a second file with its weights
                os.replace(part, part.with_name(part.name.removeprefix("unfinished-")))
    return path
