"""Kills and pauses processes by signals."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.chaos.faults.fault import Lasting

Pids: TypeAlias = Callable[[], list[int]]
"""Returns the processes that have a role now."""


@dataclass(slots=True)
class Kill:
    """Sends SIGKILL to the first process of a role. `restart` starts again what has no supervisor."""

    role: str
    pids: Pids
    restart: Callable[[], None] = lambda: None
    lasts_s: float = 0.0
    num_kills: int = 0
    _before: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"kill {self.role}"

    def inject(self) -> str:
        self._before = self.pids()
        killed = _send(signal.SIGKILL, self._before[:1])
        self.num_kills = len(killed)
        return _described(killed)

    def heal(self) -> None:
        self.restart()

    def is_over(self) -> bool:
        return bool(set(self.pids()) - set(self._before))


@dataclass(slots=True)
class Pause(Lasting):
    """Sends SIGSTOP, and SIGCONT after a while, as when a machine sleeps or its disk hangs."""

    role: str
    pids: Pids
    lasts_s: float
    num_kills: int = 0
    _stopped: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"pause {self.role}"

    def inject(self) -> str:
        self._stopped = _send(signal.SIGSTOP, self.pids()[:1])
        return _described(self._stopped)

    def heal(self) -> None:
        _send(signal.SIGCONT, self._stopped)


def _send(number: signal.Signals, pids: Sequence[int]) -> list[int]:
    """Sends a signal; returns the processes that were there to get it."""
    reached = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def _described(pids: Sequence[int]) -> str:
    return ", ".join(f"process {pid}" for pid in pids) or "nobody is there"
