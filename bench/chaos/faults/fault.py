"""Defines a fault, a kind of fault that can be drawn, and two faults at once."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Family: TypeAlias = Literal["kill", "cut", "other"]
"""What is counted: faults that kill a process, power cuts, and all others."""


class Fault(Protocol):
    """A fault that was drawn."""

    @property
    def name(self) -> str: ...

    @property
    def lasts_s(self) -> float: ...

    @property
    def num_kills(self) -> int:
        """The number of processes that it has killed; 0 before it began."""

    def inject(self) -> str:
        """Begins the fault; returns what it did, in words."""

    def heal(self) -> None:
        """Ends the fault."""

    def is_over(self) -> bool:
        """Whether what it took away is there again."""


class Lasting:
    """A fault that takes nothing away for good."""

    __slots__ = ()

    def is_over(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault that can be drawn. `make` draws its parameters."""

    name: str
    make: Callable[[random.Random], Fault]
    family: Family = "other"


@dataclass(frozen=True, slots=True)
class Together:
    """Two faults at once."""

    faults: Sequence[Fault]

    @property
    def name(self) -> str:
        return " and ".join(fault.name for fault in self.faults)

    @property
    def lasts_s(self) -> float:
        return max(fault.lasts_s for fault in self.faults)

    @property
    def num_kills(self) -> int:
        return sum(fault.num_kills for fault in self.faults)

    def inject(self) -> str:
        return ", ".join(fault.inject() for fault in self.faults)

    def heal(self) -> None:
        for fault in self.faults:
            fault.heal()

    def is_over(self) -> bool:
        return all(fault.is_over() for fault in self.faults)
