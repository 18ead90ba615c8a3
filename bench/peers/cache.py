"""Where exported models are kept: made once a version of their library, under build/bench."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from bench.results import BUILD


def folder(name: str) -> Path:
    path = BUILD / "bench" / "peers" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


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
