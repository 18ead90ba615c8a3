"""Runs one benchmark at a time, and one side of a comparison in a process of its own.

Thread pools of two libraries in one process spoil both. Rows are recorded in RESULTS.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

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


def lifelong(*words: str) -> list[str]:
    """Returns the command line of `lifelong WORDS`, whose settings are those of the environment alone."""
    return [sys.executable, "-P", "-m", "services.cli", *words, "--config", os.devnull]


def await_that(holds: Callable[[], object], why_not: str, *, within_s: float, every_s: float = 0.5) -> None:
    """Returns when something holds that nothing gives notice of. Raises NoResult if that takes longer."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise NoResult(f"{why_not} within {within_s:g} s")
        time.sleep(every_s)


class Server(Protocol):
    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


@contextmanager
def stopping(server: S) -> Iterator[S]:
    """Ends a server of our own when left."""
    try:
        yield server
    finally:
        server.stop()


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
