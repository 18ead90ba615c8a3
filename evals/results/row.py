"""Defines one published quantity: its value in each call of a benchmark, its goal, and its peers in the same call.

A goal is met if every call meets it. Rejected: the mean of the calls, because a user may get the worst call.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a measured value.

    As text, "<= 60" means at most 60, and ">= 1.8x" means at least 1.8 times the best peer's value.
    """

    side: Literal["<=", ">="]
    value: float
    of_peer: bool = False

    @classmethod
    def parse(cls, words: str) -> "Goal":
        """Returns the goal that a text such as "<= 60" means.

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
    """The value of a peer, in the unit of the row."""

    name: str
    value: float


class Spread(NamedTuple):
    """The lowest value of several calls, the median, and the highest value."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """The peers without a valid value in a call. If there are any, a goal against peers cannot be judged."""

    missing: tuple[str, ...] = ()
    """The peers that should have run and did not."""
    unfinished: tuple[str, ...] = ()
    """The peers for which the search for the best settings did not finish in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """The result of one call of a benchmark for one quantity. `value` is None if there is no result."""

    value: float | None
    goal: Goal | None = None
    """The goal of the value. It may depend on other measurements of the call."""
    peers: tuple[Peer, ...] = ()
    """The peers that ran, the best one first."""
    gaps: Gaps = Gaps()
    """The peers that did not run, or not with their best settings."""
    note: str = ""
    """A remark for readers, such as the reason why there is no value."""

    @property
    def ratio(self) -> float | None:
        """Our value divided by the best peer's value."""
        if self.value is None or not self.peers or not self.peers[0].value:
            return None
        return round(self.value / self.peers[0].value, 3)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met. A call without a value has failed, with a goal or without.

        It is None if there is no goal, or if the goal is against peers and not all peers ran with their best settings.
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
    """A published quantity with the results of all calls."""

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
        """Returns the row of a single call, as benchmarks yield it. `goal` is a text for `Goal.parse`."""
        call = Call(value=value, goal=Goal.parse(goal) if goal else None, peers=peers, gaps=gaps, note=note)
        return cls(name=name, unit=unit, calls=(call,))

    @property
    def goal(self) -> str | None:
        """The goal of the calls as text. If the calls have different goals, all goals in the order of the calls."""
        return ", ".join(dict.fromkeys(str(call.goal) for call in self.calls if call.goal)) or None

    @property
    def values(self) -> Spread | None:
        """The spread over the calls that have a value, or None if no call has one."""
        return spread(call.value for call in self.calls)

    @property
    def ratios(self) -> Spread | None:
        """The spread of the calls' ratios to their best peers."""
        return spread(call.ratio for call in self.calls)

    @property
    def met(self) -> bool | None:
        """Whether every call meets its goal: see `all_met`."""
        return all_met([call.met for call in self.calls])


def all_met(verdicts: Collection[bool | None]) -> bool | None:
    """Returns whether every call meets its goal; None if no call misses its goal and some call cannot be judged."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


class Skip(Exception):
    """The benchmark cannot run here. The message says why."""


class NoResult(Exception):
    """The benchmark ran but has no result. The message says why."""


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns the spread of the values that are not None, or None if there are none."""
    known = [value for value in values if value is not None]
    return Spread(min(known), median(known), max(known)) if known else None
