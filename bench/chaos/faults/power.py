"""Cuts the power of a machine: its programs end, and what was not synced is lost."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.chaos.faults.process import Pids


@dataclass(slots=True)
class PowerCut:
    """Kills and rolls back. `pids` are the processes whose return ends it."""

    role: str
    cut: Callable[[], str]
    pids: Pids
    lasts_s: float = 0.0
    num_kills: int = 0
    _before: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"power cut {self.role}"

    def inject(self) -> str:
        self._before = self.pids()
        return self.cut()

    def heal(self) -> None:
        pass

    def is_over(self) -> bool:
        return bool(set(self.pids()) - set(self._before))
