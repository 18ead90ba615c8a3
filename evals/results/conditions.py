"""Observes what others do on the machine while a benchmark runs: load, steal, and the processes that are not ours.

PAUSE_S before --> the call, looked at every few seconds --> PAUSE_S after --> Conditions of that call

Ours are this process and all that descend from it, also those that outlive their parents. Everything else counts as
beside us, and what other guests of the host take shows as steal.
"""

import os
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType

import msgspec
import psutil

from wire.threads import BackgroundThread

PAUSE_S = 1.0
"""How long others are observed before a call and after it."""

LOOK_EVERY_S = 5.0
"""A process that begins and ends between two looks is not seen."""

NUM_BUSIEST = 10
WORTH_NAMING = 0.01
"""Cores, on average: processes that take less are counted, and not named."""

Key = tuple[int, float]
"""A process by its number and the time of its start: numbers come again."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What others did for a while."""

    seconds: float
    load: float
    """The load average of the last minute at the end, our own threads included."""
    steal: float
    """Percent of the time of all processors that the host gave to others."""
    others: float
    """Processors that the processes beside us took, on average."""
    busiest: dict[str, float]
    """The busiest of them by name, with the processors that those of this name took."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What others did before, during and after a call."""

    before: Stretch
    during: Stretch
    after: Stretch


class ConditionsWatch:
    """Observes others before, during and after its block."""

    def __init__(self) -> None:
        self.conditions: Conditions | None = None
        """What was observed; None until the block was left."""
        self._ours: set[Key] = set()

    def __enter__(self) -> "ConditionsWatch":
        self._before = self._pause()
        self._during = _Observation(self._ours)
        self._thread = BackgroundThread(self._look, name="bench-watch")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.close()
        during = self._during.stretch()
        self.conditions = Conditions(before=self._before, during=during, after=self._pause())

    def _pause(self) -> Stretch:
        observation = _Observation(self._ours)
        time.sleep(PAUSE_S)
        return observation.stretch()

    def _look(self) -> None:
        """Looks again and again.

        consumes: the process table; produces: seconds of others; waits for: LOOK_EVERY_S; unblocked by: the block's end
        """
        while not self._thread.closing.wait(LOOK_EVERY_S):
            self._during.look()


class _Observation:
    """Counts the processor time of others from its making on. `ours` grows by our descendants at each look."""

    def __init__(self, ours: set[Key]) -> None:
        self._ours = ours
        self._start_s = time.monotonic()
        self._ticks = _ticks()
        self._seen: dict[Key, float] = {}
        self._seconds: dict[Key, float] = defaultdict(float)
        self._names: dict[Key, str] = {}
        self.look(is_first=True)

    def look(self, *, is_first: bool = False) -> None:
        """Adds the processor time that each process has taken since the last look."""
        self._ours |= _family()
        for process in psutil.process_iter():
            try:
                key = (process.pid, process.create_time())
                taken = process.cpu_times()
                name = self._names.get(key) or _name(process)
            except psutil.Error:
                continue
            total_s = taken.user + taken.system
            self._seconds[key] += total_s - self._seen.get(key, total_s if is_first else 0.0)
            self._seen[key] = total_s
            self._names[key] = name

    def stretch(self) -> Stretch:
        """Looks a last time; returns what was counted."""
        self.look()
        seconds = max(time.monotonic() - self._start_s, 1e-3)
        cores: dict[str, float] = defaultdict(float)
        for key, taken_s in self._seconds.items():
            if key not in self._ours:
                cores[self._names[key]] += taken_s / seconds
        total, stolen = (now - then for now, then in zip(_ticks(), self._ticks, strict=True))
        busiest = sorted(cores.items(), key=lambda each: -each[1])[:NUM_BUSIEST]
        return Stretch(
            seconds=round(seconds, 1),
            load=round(os.getloadavg()[0], 2),
            steal=round(100 * stolen / max(total, 1), 2),
            others=round(sum(cores.values()), 2),
            busiest={name: round(share, 2) for name, share in busiest if share >= WORTH_NAMING},
        )


def _family() -> set[Key]:
    """Returns this process and its descendants that run now."""
    own = psutil.Process()
    return {(process.pid, process.create_time()) for process in (own, *own.children(recursive=True))}


def _name(process: psutil.Process) -> str:
    """Returns the name of a program; of Python with what it runs, without folders and other arguments."""
    name = process.name()
    if not name.startswith("python"):
        return name
    words = iter(process.cmdline()[1:])
    for word in words:
        if word == "-c":
            return name
        if word == "-m":
            return f"{name} {next(words, '')}".strip()
        if not word.startswith("-"):
            return f"{name} {Path(word).name}"
    return name


def _ticks() -> tuple[int, int]:
    """Returns the ticks of all processors since the start of the machine, and those of them that were stolen."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = list(map(int, words[:8]))
    return sum(ticks), ticks[7]
