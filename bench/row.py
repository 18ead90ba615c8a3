"""Defines one published number: what each call of a benchmark measured, the goal, and the peers of the same call."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: `Goal("<=", 60)` is at most 60, `Goal(">=", 1.8, of_peer=True)` at least 1.8 times the best peer's."""

    side: Literal["<=", ">="]
    value: float
    of_peer: bool = False

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
class Call:
    """What one call measured. `value` is None where there is no result."""

    value: float | None
    peers: tuple[Peer, ...] = ()
    """The peers that ran, the best one first."""
    missing: tuple[str, ...] = ()
    """The names of the peers that should have run and did not."""
    note: str = ""
    """What a reader must know of this call, such as why there is no value."""

    @property
    def ratio(self) -> float | None:
        """Our value divided by that of the best peer."""
        if self.value is None or not self.peers or not self.peers[0].value:
            return None
        return round(self.value / self.peers[0].value, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A published number, with the values of all calls."""

    name: str
    unit: str
    goal: Goal | None
    calls: tuple[Call, ...]

    @classmethod
    def of(
        cls,
        *,
        name: str,
        value: float | None,
        unit: str,
        goal: Goal | None = None,
        peers: tuple[Peer, ...] = (),
        missing: tuple[str, ...] = (),
        note: str = "",
    ) -> "Row":
        """Makes the row of a single call, which is what a benchmark yields."""
        call = Call(value=value, peers=peers, missing=missing, note=note)
        return cls(name=name, unit=unit, goal=goal, calls=(call,))

    @property
    def values(self) -> Spread | None:
        """The spread over the calls that have a value; None where no call has one."""
        return _spread(call.value for call in self.calls)

    @property
    def ratios(self) -> Spread | None:
        """The spread of the ratios to the best peer of each call."""
        return _spread(call.ratio for call in self.calls)

    @property
    def met(self) -> bool | None:
        """Whether every call meets the goal. A call without a value has failed, with a goal or without.

        None where there is no goal, or where it is one against peers and not all of them ran.
        """
        verdicts = [self._is_met(call) for call in self.calls]
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _is_met(self, call: Call) -> bool | None:
        if call.value is None:
            return False
        if self.goal is None:
            return None
        if not self.goal.of_peer:
            return self.goal.is_met(call.value)
        if call.ratio is None or call.missing:
            return None
        return self.goal.is_met(call.ratio)


class Skip(Exception):
    """A benchmark that cannot run here; the message says why."""


class NoResult(Exception):
    """A benchmark that has no result, although it could run; the message says why."""


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(min(known), median(known), max(known)) if known else None
