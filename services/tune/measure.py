"""Measures layouts: starts as many workers as the largest needs, and lets some of them encode concurrently.

    layouts, batch sizes --rounds--> workers, concurrently --their sum--> MeasuredLayout

The rounds of the layouts are interleaved, and the best round of each counts, so that a slow moment of the machine
decides nothing.

Rejected: threads instead of processes (they would share an interpreter lock, as replicas do not), and measuring the
running service (its load would distort ours, and ours would slow it down).
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from services.tune.layout import Layout, MeasuredLayout

NUM_TEXTS = (1, 8, 64)
"""Batch sizes: a single client, a few clients, a full batch."""

ROUNDS = 2
SECONDS = 0.5

Worker = subprocess.Popen[str]


class Task(msgspec.Struct, frozen=True):
    """A task for a worker: encode batches of `texts` texts for `seconds`, with `threads` threads."""

    threads: int
    texts: int
    seconds: float


class TuneFailed(RuntimeError):
    """A worker has ended, after printing its error."""


def measure(
    layouts: Sequence[Layout], *, encoder: str, say: Callable[[str], None], seconds: float = SECONDS
) -> list[MeasuredLayout]:
    """Measures every layout, in the given order. Raises TuneFailed."""
    best_rates: dict[Layout, dict[int, float]] = {layout: dict.fromkeys(NUM_TEXTS, 0.0) for layout in layouts}
    say("Starting the workers ...")
    with _workers(max(layout.replicas for layout in layouts), encoder) as workers:
        for _ in range(ROUNDS):
            for layout, rates in best_rates.items():
                say(f"Measuring {layout} ...")
                for texts in NUM_TEXTS:
                    task = Task(layout.threads, texts, seconds)
                    rates[texts] = max(rates[texts], _together(workers[: layout.replicas], task))
    return [MeasuredLayout(layout, rates) for layout, rates in best_rates.items()]


def _together(workers: Sequence[Worker], task: Task) -> float:
    """Runs the task on all workers at once; returns the sum of their texts a second."""
    _tell(workers, msgspec.json.encode(task).decode())
    _hear(workers)
    _tell(workers, "go")
    return sum(map(float, _hear(workers)))


@contextmanager
def _workers(num: int, encoder: str) -> Iterator[list[Worker]]:
    argv = [sys.executable, "-P", "-m", "services.tune.worker", encoder]
    started: list[Worker] = []
    try:
        for _ in range(num):
            started.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        _hear(started)
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def _tell(workers: Sequence[Worker], line: str) -> None:
    for worker in workers:
        assert worker.stdin is not None
        try:
            print(line, file=worker.stdin, flush=True)
        except BrokenPipeError:
            raise TuneFailed("a process that measures has ended") from None


def _hear(workers: Sequence[Worker]) -> list[str]:
    """Reads a line from each worker."""
    lines: list[str] = []
    for worker in workers:
        assert worker.stdout is not None
        lines.append(worker.stdout.readline())
    if not all(lines):
        raise TuneFailed("a process that measures has ended")
    return lines
