"""Measures layouts: starts as many workers as the largest needs, and lets some of them encode at the same moment.

    layouts, sizes of a batch --rounds--> workers, all at once --their sum--> MeasuredLayout

The layouts take turns, and the best round of each counts, so that a slow moment of the machine decides nothing.

Rejected: threads of one process instead of processes (they would share an interpreter, as replicas do not), and asking
the running service (its load would be measured, and it would feel ours).
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from services.tune.layout import Layout, MeasuredLayout

NUM_TEXTS = (1, 8, 64)
"""Texts of a batch: a client that is alone, some company, a full batch."""

ROUNDS = 2
SECONDS = 0.5

Worker = subprocess.Popen[str]


class Task(msgspec.Struct, frozen=True):
    """To encode batches of `texts` for `seconds`."""

    threads: int
    texts: int
    seconds: float


class TuneFailed(RuntimeError):
    """A worker ended; it has said why."""


def measure(
    layouts: Sequence[Layout], *, encoder: str, say: Callable[[str], None], seconds: float = SECONDS
) -> list[MeasuredLayout]:
    """Every layout, in the order given. Raises TuneFailed."""
    found: dict[Layout, dict[int, float]] = {layout: dict.fromkeys(NUM_TEXTS, 0.0) for layout in layouts}
    say("Starting the workers ...")
    with _workers(max(layout.replicas for layout in layouts), encoder) as workers:
        for _ in range(ROUNDS):
            for layout, rates in found.items():
                say(f"Measuring {layout} ...")
                for texts in NUM_TEXTS:
                    task = Task(layout.threads, texts, seconds)
                    rates[texts] = max(rates[texts], _together(workers[: layout.replicas], task))
    return [MeasuredLayout(layout, rates) for layout, rates in found.items()]


def _together(workers: Sequence[Worker], task: Task) -> float:
    """Texts a second of all."""
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
    """A line of each."""
    lines: list[str] = []
    for worker in workers:
        assert worker.stdout is not None
        lines.append(worker.stdout.readline())
    if not all(lines):
        raise TuneFailed("a process that measures has ended")
    return lines
