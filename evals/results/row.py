"""Defines one published number: what each call of a benchmark measured, its goal, and the peers of the same call.

Rejected: the mean of the calls (one that fails is what a user may get, so it decides whether the goal is met).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound. In words "<= 60" is at most 60, and ">= 1.8x" at least 1.8 times the best peer's."""

    side: Literal["<=", ">="]
    value: float
    of_peer: bool = False

    @classmethod
    def parse(cls, words: str) -> "Goal":
        """Returns the goal of such words.

        >>> Goal.parse(">= 1.8x")
        Goal(side='>=', value=1.8, of_peer=True)
        """
        sides: dict[str, Literal["<=", ">="]] = {"<=": "<=", ">=": ">="}
        side, number = words.split()
        return cls(sides[side], float(number.removesuffix("x")), of_peer=number.endswith("x"))

    def __str__(self) -> str:
        return f"{self.side} {self.value:g}{'x' if self.of_peer else ''}"

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.side == "<=" else value >= self.value


@dataclass(frozen=True, slots=True)
class Peer:
    """The figure of a peer, in the unit of the row."""

    name: str
    value: float


class Spread(NamedTuple):
    """The lowest value of several calls, the one in the middle, and the highest."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """The names of the peers for lack of which a goal against peers cannot be judged."""

    missing: tuple[str, ...] = ()
    """Those that should have run and did not."""
    unfinished: tuple[str, ...] = ()
    """Those whose best settings were still searched for when the time for it was over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What one call measured. `value` is None where there is no result."""

    value: float | None
    goal: Goal | None = None
    """What the value is held against. It may follow from what else the call measured."""
    peers: tuple[Peer, ...] = ()
    """The peers that ran, the best one first."""
    gaps: Gaps = Gaps()
    """The peers that are not among those, or not at their best."""
    note: str = ""
    """What a reader must know of this call, such as why there is no value."""

    @property
    def ratio(self) -> float | None:
        """Our value divided by that of the best peer."""
        if self.value is None or not self.peers or not self.peers[0].value:
            return None
        return round(self.value / self.peers[0].value, 3)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met. A call without a value has failed, with a goal or without.

        None where there is no goal, or where it is one against peers and not all of them ran at their best.
        """
        if self.value is None:
            return False
        if self.goal is None:
            return None
        if not self.goal.of_peer:
            return self.goal.is_met(self.value)
        if self.ratio is None or self.gaps != Gaps():
            return None
        return self.goal.is_met(self.ratio)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A published number, with the values of all calls."""

    name: str
    unit: str
    calls: tuple[Call, ...]

    @classmethod
    def of(
        cls,
        name: str,
        value: float | None,
        unit: str,
        *,
        goal: str | None = None,
        peers: tuple[Peer, ...] = (),
        gaps: Gaps = Gaps(),
        note: str = "",
    ) -> "Row":
        """Makes the row of a single call, which is what a case yields. The goal is in words (`Goal.parse`)."""
        held_against = Goal.parse(goal) if goal else None
        call = Call(value=value, goal=held_against, peers=peers, gaps=gaps, note=note)
        return cls(name=name, unit=unit, calls=(call,))

    @property
    def goal(self) -> str | None:
        """The goal of the calls, in words; where they differ, all of them in the order of the calls."""
        return ", ".join(dict.fromkeys(str(call.goal) for call in self.calls if call.goal)) or None

    @property
    def values(self) -> Spread | None:
        """The spread over the calls that have a value; None where no call has one."""
        return spread(call.value for call in self.calls)

    @property
    def ratios(self) -> Spread | None:
        """The spread of the ratios to the best peer of each call."""
        return spread(call.ratio for call in self.calls)

    @property
    def met(self) -> bool | None:
        """Whether every call meets its goal; None where no call misses it, and one cannot be judged."""
        return all_met([call.met for call in self.calls])


def all_met(verdicts: Collection[bool | None]) -> bool | None:
    """Whether every call meets its goal; None where no call misses it, and one cannot be judged."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


class Skip(Exception):
    """A benchmark that cannot run here; the message says why."""


class NoResult(Exception):
    """A benchmark that has no result, although it could run; the message says why."""


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns the spread of the values that there are; None if there are none."""
    known = [value for value in values if value is not None]
    return Spread(min(known), median(known), max(known)) if known else None
