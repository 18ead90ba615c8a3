"""Layouts, replicas times threads: the candidates to measure, and the best of the measured ones. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

WORTH = 0.95
"""A layout with fewer replicas, or threads, wins with this share of the best score: each replica costs memory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A number of `replicas` processes with `threads` threads each."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}"


@dataclass(frozen=True, slots=True)
class MeasuredLayout:
    """The throughput of all processes of a layout together: texts a second by batch size."""

    layout: Layout
    texts_per_s: dict[int, float]

    @property
    def score(self) -> float:
        """The geometric mean, in which all batch sizes have equal weight."""
        return geometric_mean(self.texts_per_s.values())


def layouts(cores: int, *, max_replicas: int) -> list[Layout]:
    """Returns the layouts with a core for every thread: powers of two, and the largest numbers.

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
    """Returns the best layout with these replicas and threads, where they are given; None where there is none."""
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
