"""Says where the rows of the benchmarks are recorded, and lets one benchmark run at a time."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
