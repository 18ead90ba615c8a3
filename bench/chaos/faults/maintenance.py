"""Does what an operator does while others use the service: something at the beginning, and something at the end."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.chaos.faults.fault import Lasting


@dataclass(frozen=True, slots=True)
class Maintenance(Lasting):
    """An operation with two steps. Each returns when it is done."""

    name: str
    begin: Callable[[], str]
    end: Callable[[], None]
    lasts_s: float
    num_kills: int = 0

    def inject(self) -> str:
        return self.begin()

    def heal(self) -> None:
        self.end()
