"""Defines one published number: the value, the goal, and what a peer reaches in the same call."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: `Goal("<=", 60)` is at most 60, `Goal(">=", 1.8, of_peer=True)` at least 1.8 times the peer's value."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A measured value. `value` is None where there is no result; then the goal is not met."""

    name: str
    value: float | None
    unit: str
    goal: Goal | None = None
    peer: Peer | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal, or no peer to compare with."""
        if self.goal is None or (self.goal.of_peer and self.peer is None):
            return None
        value = self.ratio if self.goal.of_peer else self.value
        return value is not None and self.goal.is_met(value)

    @property
    def ratio(self) -> float | None:
        """Our value divided by the peer's."""
        if self.peer is None or self.value is None or not self.peer.value:
            return None
        return round(self.value / self.peer.value, 3)


class Skip(Exception):
    """A benchmark that cannot run here; the message says why."""
