"""Measures the throughput of layouts (replicas x threads).

It starts as many workers as the largest layout needs, and lets as many as a layout has encode concurrently.

    cores --layouts--> candidates, batch sizes --rounds--> workers, concurrently --their sum--> MeasuredLayout --> best

The rounds of the layouts are interleaved, and the best round of each layout counts, so that a slow moment of the
machine does not decide.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import geometric_mean

import msgspec

WORTH = 0.95
"""A layout with fewer replicas or threads wins if it has this share of the best score: each replica costs memory."""

NUM_TEXTS = (1, 8, 64)
"""Batch sizes: a single client, a few clients, a full batch."""

ROUNDS = 2

SECONDS = 0.5

Worker = subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class Layout:
    """A number of `replicas` processes with `threads` threads each."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}"


@dataclass(frozen=True, slots=True)
class MeasuredLayout:
    """The total throughput of a layout's processes: texts per second by batch size."""

    layout: Layout
    texts_per_s: dict[int, float]

    @property
    def score(self) -> float:
        """The geometric mean over the batch sizes."""
        return geometric_mean(self.texts_per_s.values())


def layouts(cores: int, *, max_replicas: int) -> list[Layout]:
    """Returns the layouts that have a core for each thread: powers of two, and the largest numbers.

    >>> [str(layout) for layout in layouts(2, max_replicas=4)]
    ['1 x 1', '1 x 2', '2 x 1']
    """
    candidates = []
    for replicas in _steps(min(cores, max_replicas)):
        for threads in _steps(cores // replicas):
            candidates.append(Layout(replicas, threads))
    return candidates


def best(
    table: Iterable[MeasuredLayout], *, replicas: int | None = None, threads: int | None = None
) -> MeasuredLayout | None:
    """Returns the best layout with these replicas and threads, if they are given. None: no layout has them."""
    matching = [
        measured
        for measured in table
        if replicas in (None, measured.layout.replicas) and threads in (None, measured.layout.threads)
    ]
    if not matching:
        return None
    threshold = WORTH * max(measured.score for measured in matching)
    return min(
        (measured for measured in matching if measured.score >= threshold),
        key=lambda measured: (measured.layout.replicas, measured.layout.threads),
    )


def _steps(most: int) -> Sequence[int]:
    """Returns 1, 2, 4, ... and `most`."""
    return sorted({*(1 << power for power in range(most.bit_length())), most})


class Task(msgspec.Struct, frozen=True):
    """A task for a worker: encode batches of `texts` texts for `seconds`, with `threads` threads."""

    threads: int
    texts: int
    seconds: float


class TuneFailed(RuntimeError):
    """A worker ended, after it printed its error."""


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
    """Runs the task on all workers at once; returns the sum of their texts per second."""
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
            raise TuneFailed("a worker of the measurement ended: its error is above") from None


def _hear(workers: Sequence[Worker]) -> list[str]:
    """Reads a line from each worker."""
    lines: list[str] = []
    for worker in workers:
        assert worker.stdout is not None
        lines.append(worker.stdout.readline())
    if not all(lines):
        raise TuneFailed("a worker of the measurement ended: its error is above")
    return lines
