"""Where exported models are kept: made once for each version of their library and of the weights, under build/bench."""

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


def models(library: str, strata: Strata) -> Path:
    """The folder for `strata` as exported for the installed version of `library`. Raises ImportError without one."""
    digest = hashlib.sha256()
    for tensor in strata.state_dict().values():
        digest.update(tensor.numpy())
    return folder(f"{library}-{importlib.metadata.version(library)}-{digest.hexdigest()[:12]}")


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made by `make` if it is not there; two processes that ask at a time make it once."""
    with (path.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"unfinished-{path.name}")
            make(unfinished)
            for part in path.parent.glob(f"{unfinished.stem}.*"):  # a model may come with a file of its weights
                os.replace(part, part.with_name(part.name.removeprefix("unfinished-")))
    return path
