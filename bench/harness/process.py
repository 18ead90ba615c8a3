"""Runs one benchmark at a time, and one side of a comparison in a process of its own.

The thread pools of two libraries in one process would slow down each other. Rows are recorded in RESULTS.
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
    """Holds a file lock while a benchmark runs, after waiting for it: two benchmarks would slow down each other."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "bench.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another benchmark runs in this checkout. Waiting until it ends ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lifelong_command(*words: str) -> list[str]:
    """Returns the command line of `lifelong WORDS`, which reads its settings from the environment alone."""
    return [sys.executable, "-P", "-m", "services.cli", *words, "--config", os.devnull]


def poll_until(condition: Callable[[], object], failure: str, *, within_s: float, every_s: float = 0.5) -> None:
    """Polls a condition until it holds. Raises NoResult, which begins with `failure`, after `within_s` seconds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise NoResult(f"{failure} within {within_s:g} s")
        time.sleep(every_s)


class Server(Protocol):
    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


@contextmanager
def stopping(server: S) -> Iterator[S]:
    """Stops a server on exit."""
    try:
        yield server
    finally:
        server.stop()


LIMIT_S = 600.0


class PeerFailed(NoResult):
    """A process of a benchmark ended without a result."""


def run_module(module: str, *arguments: str, limit_s: float = LIMIT_S) -> Any:
    """Runs `python -m module` and returns its last line of output, parsed as JSON. Raises PeerFailed."""
    return json.loads(module_output(module, *arguments, limit_s=limit_s)[-1])


def module_output(module: str, *arguments: str, limit_s: float = LIMIT_S) -> list[str]:
    """Runs `python -m module` and returns the lines that it prints, at least one.

    Raises PeerFailed if it ends with an error, without output, or not within `limit_s` seconds.
    """
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
