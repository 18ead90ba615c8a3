"""Defines an experiment of the ledger: its claim, its bars, and the function that measures it.

Experiment.measure(SeedRun) --> Figure, Figure, ... --row_of--> a row for each bar (evals/results/row.py)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evals.results.row import Goal, Peer, Row

SEEDS = 3
"""How many seeds a full run has. A quick one has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """What one number is held against."""

    name: str
    unit: str
    goal: Goal | None
    """None for a number that is shown beside the others."""
    quick: Goal | None = None
    """What a quick run must reach, which is too short for the goal: the direction, or a property that always holds."""
    baseline: str
    """What the number is compared with, and how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One run of an experiment."""

    seed: int
    is_quick: bool
    """Whether it may take seconds only: the mechanism and the direction on a smaller case."""
    data: Path | None
    """The folder of the data sets."""
    say: Callable[[str], None]
    """Shows what is under way."""

    def size(self, quick: int, full: int) -> int:
        """Returns the number of steps, samples or tokens that this run is to have."""
        return quick if self.is_quick else full


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """What a run measured for the bar of that name. `value` is None where there is no result."""

    bar: str
    value: float | None
    peers: tuple[Peer, ...] = ()
    """The baselines of the same run, the best one first."""
    note: str = ""
    """What a reader must know of this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A row of the ledger."""

    id: str
    title: str
    claim: str
    """What the article says, in a sentence."""
    how: str
    """What is measured, on what, and for how long; in sentences."""
    bars: tuple[Bar, ...]
    measure: Callable[[SeedRun], Iterator[Figure]]
    """Raises Skip where it cannot run, and NoResult."""

    def row_of(self, figure: Figure, *, is_quick: bool) -> Row:
        """Returns the row of one call. Raises StopIteration for a bar that is not among the experiment's."""
        bar = next(bar for bar in self.bars if bar.name == figure.bar)
        return Row.of(
            name=self.name_of(bar),
            value=figure.value,
            unit=bar.unit,
            goal=bar.quick if is_quick else bar.goal,
            peers=figure.peers,
            note=figure.note,
        )

    def name_of(self, bar: Bar) -> str:
        """Returns the name of the row, for example `E1.mqar`."""
        return f"{self.id}.{bar.name}"
