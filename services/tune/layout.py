"""Replicas times threads: which are worth a measurement, and which of the measured ones is best. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

WORTH = 0.95
"""A layout with fewer replicas, or threads, is taken when it does this much of the best: each replica costs memory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`replicas` processes that compute with `threads` threads each."""

    replicas: int
    threads: int

    def __str__(self) -> str:
        return f"{self.replicas} x {self.threads}"


@dataclass(frozen=True, slots=True)
class MeasuredLayout:
    """What all processes of a layout encode together: texts a second, by the texts of a batch."""

    layout: Layout
    texts_per_s: dict[int, float]

    @property
    def score(self) -> float:
        """No size of a batch counts more than another."""
        return geometric_mean(self.texts_per_s.values())


def layouts(cores: int, *, max_replicas: int) -> list[Layout]:
    """Those that leave no thread without a core: powers of two, and as many as there are.

    >>> [str(layout) for layout in layouts(2, max_replicas=4)]
    ['1 x 1', '1 x 2', '2 x 1']
    """
    return [
        Layout(replicas, threads)
        for replicas in _steps(min(cores, max_replicas))
        for threads in _steps(cores // replicas)
    ]


def best(
    table: Iterable[MeasuredLayout], *, replicas: int | None = None, threads: int | None = None
) -> MeasuredLayout | None:
    """The winner among the layouts with these replicas and threads, where they are given; None where there is none."""
    fitting = [
        measured
        for measured in table
        if replicas in (None, measured.layout.replicas) and threads in (None, measured.layout.threads)
    ]
    if not fitting:
        return None
    enough = WORTH * max(measured.score for measured in fitting)
    return min(
        (measured for measured in fitting if measured.score >= enough),
        key=lambda measured: (measured.layout.replicas, measured.layout.threads),
    )


def _steps(most: int) -> Sequence[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({*(1 << power for power in range(most.bit_length())), most})
