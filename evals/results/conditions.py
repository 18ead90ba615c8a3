"""Measures the load of other processes while a benchmark runs: load average, steal time, and processor time.

PAUSE_S before --> the call, sampled every few seconds --> PAUSE_S after --> Conditions of that call

Our own processes are this process and its descendants, also descendants that outlive their parents. All other processes
count as others. Processor time that the host gives to other guests shows as steal.
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
"""The time for which the load is measured before a call and after it."""

SAMPLE_INTERVAL_S = 5.0
"""The time between two samples. A process that begins and ends between two samples is not seen."""

NUM_BUSIEST = 10
MIN_NAMED_CORES = 0.01
"""Processes that take fewer cores on average are counted, but not named."""

ProcessKey = tuple[int, float]
"""A process id and the time at which the process was started, since ids are reused."""


class Period(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load of other processes in a period of time."""

    seconds: float
    load: float
    """The one-minute load average at the end, our own threads included."""
    steal: float
    """The percentage of the time of all processors that the host gave to other guests."""
    others: float
    """The average number of processors that other processes took."""
    busiest: dict[str, float]
    """The average number of processors that the busiest other programs took, by name."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load of other processes before, during and after a call."""

    before: Period
    during: Period
    after: Period


class ConditionsWatch:
    """Measures the load of other processes before, during and after its context."""

    def __init__(self) -> None:
        self.conditions: Conditions | None = None
        """The result, which is None until the context has ended."""
        self._ours: set[ProcessKey] = set()

    def __enter__(self) -> "ConditionsWatch":
        self._before = self._pause()
        self._during = _Observation(self._ours)
        self._thread = BackgroundThread(self._sample, name="bench-watch")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.close()
        during = self._during.end()
        self.conditions = Conditions(before=self._before, during=during, after=self._pause())

    def _pause(self) -> Period:
        observation = _Observation(self._ours)
        time.sleep(PAUSE_S)
        return observation.end()

    def _sample(self) -> None:
        """Samples until the context ends.

        consumes: the process table; produces: seconds of others; waits for: SAMPLE_INTERVAL_S
        unblocked by: the end of the context
        """
        while not self._thread.closing.wait(SAMPLE_INTERVAL_S):
            self._during.sample()


class _Observation:
    """Counts the processor time of other processes from its creation on.

    `ours` are the keys of our own processes. Every sample adds our current descendants to this set.
    """

    def __init__(self, ours: set[ProcessKey]) -> None:
        self._ours = ours
        self._start_s = time.monotonic()
        self._ticks = _ticks()
        self._seen: dict[ProcessKey, float] = {}
        self._seconds: dict[ProcessKey, float] = defaultdict(float)
        self._names: dict[ProcessKey, str] = {}
        self.sample(is_first=True)

    def sample(self, *, is_first: bool = False) -> None:
        """Adds the processor time that each process has taken since the last sample."""
        self._ours |= _family()
        for process in psutil.process_iter():
            try:
                key = (process.pid, process.create_time())
                taken = process.cpu_times()
                name = self._names.get(key) or _name(process)
            except psutil.Error:
                continue
            total_s = taken.user + taken.system
            # A process that is new after the first sample has taken all of its time since then.
            self._seconds[key] += total_s - self._seen.get(key, total_s if is_first else 0.0)
            self._seen[key] = total_s
            self._names[key] = name

    def end(self) -> Period:
        """Takes a last sample and returns the counts."""
        self.sample()
        seconds = max(time.monotonic() - self._start_s, 1e-3)
        cores: dict[str, float] = defaultdict(float)
        for key, taken_s in self._seconds.items():
            if key not in self._ours:
                cores[self._names[key]] += taken_s / seconds
        total, stolen = (now - then for now, then in zip(_ticks(), self._ticks, strict=True))
        busiest = sorted(cores.items(), key=lambda name_and_cores: -name_and_cores[1])[:NUM_BUSIEST]
        return Period(
            seconds=round(seconds, 1),
            load=round(os.getloadavg()[0], 2),
            steal=round(100 * stolen / max(total, 1), 2),
            others=round(sum(cores.values()), 2),
            busiest={name: round(num_cores, 2) for name, num_cores in busiest if num_cores >= MIN_NAMED_CORES},
        )


def _family() -> set[ProcessKey]:
    """Returns the keys of this process and of its running descendants."""
    own = psutil.Process()
    return {(process.pid, process.create_time()) for process in (own, *own.children(recursive=True))}


def _name(process: psutil.Process) -> str:
    """Returns the name of a program. The name of a Python process includes its script or module, without folders."""
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
    """Returns the total ticks and the stolen ticks of all processors since the machine was started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = list(map(int, words[:8]))
    return sum(ticks), ticks[7]
