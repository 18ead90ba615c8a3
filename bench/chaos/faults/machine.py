"""Fills the disk of the state folder, and sets the clock of one program wrong."""

from dataclasses import dataclass

from bench.chaos.faults.fault import Lasting
from bench.chaos.sandbox import Clock, Disk


@dataclass(frozen=True, slots=True)
class FullDisk(Lasting):
    """Leaves not a byte on the disk of the state folder."""

    disk: Disk
    lasts_s: float
    name: str = "full disk"
    num_kills: int = 0

    def inject(self) -> str:
        self.disk.fill()
        return ""

    def heal(self) -> None:
        self.disk.empty()


@dataclass(frozen=True, slots=True)
class WrongClock(Lasting):
    """Makes the wall clock of one program jump, and jump back."""

    role: str
    clock: Clock
    offset_s: int
    lasts_s: float
    num_kills: int = 0

    @property
    def name(self) -> str:
        return f"wrong clock {self.role}"

    def inject(self) -> str:
        self.clock.set(self.offset_s)
        return f"{self.offset_s:+d} s"

    def heal(self) -> None:
        self.clock.set(0)
