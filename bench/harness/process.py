"""Runs one benchmark at a time, and one side of a comparison in a process of its own.

Thread pools of two libraries in one process spoil both. Rows are recorded in RESULTS.
"""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from evals.results.row import NoResult
from services.versions import ROOT

BUILD = ROOT / "build"
RESULTS = BUILD / "bench" / "results.jsonl"


@contextmanager
def exclusive(say: Callable[[str], None]) -> Iterator[None]:
    """Holds a file lock while a benchmark runs: two at a time would measure each other. Waits for the lock."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "bench.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another benchmark runs in this checkout; waiting for its end.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


LIMIT_S = 600.0


class PeerFailed(NoResult):
    """A process of a benchmark ended without its result."""


def run_module(module: str, *arguments: str, limit_s: float = LIMIT_S) -> Any:
    """Runs `python -m module`; returns its last line, parsed as JSON. Raises PeerFailed."""
    return json.loads(output_of(module, *arguments, limit_s=limit_s)[-1])


def output_of(module: str, *arguments: str, limit_s: float = LIMIT_S) -> list[str]:
    """Runs `python -m module`; returns the lines that it prints, at least one. Raises PeerFailed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"{module} did not end within the limit of {limit_s:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise PeerFailed(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return lines
