"""Measures how long things take: each step of a publication, and a label."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple


class Clocks(NamedTuple):
    """The clocks of a thread, in seconds: `elapsed_s` goes on while it waits, `processor_s` while it computes alone."""

    elapsed_s: Callable[[], float] = time.monotonic
    processor_s: Callable[[], float] = time.thread_time


CLOCKS: Final = Clocks()


class Stopwatch:
    """A stopwatch with laps. `end(name)` ends the current lap and begins the next; `ms` has the time of each lap."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._since_s = clock_s()
        self.ms: dict[str, float] = {}

    def end(self, name: str) -> None:
        now_s = self._clock_s()
        self.ms[name] = round(1e3 * (now_s - self._since_s), 1)
        self._since_s = now_s

    @property
    def total_ms(self) -> float:
        return round(sum(self.ms.values()), 1)


class Pace:
    """Measures the mean time of an item, where items are processed in batches."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._num = 0

    def add(self, seconds: float, num_items: int) -> None:
        if num_items:
            self._total_s += seconds
            self._num += num_items

    @property
    def ms(self) -> float:
        """Mean milliseconds of one item; 0 before the first."""
        return 1e3 * self._total_s / max(self._num, 1)

    def seconds(self, num_items: int) -> float:
        """Returns how long so many items take."""
        return 1e-3 * self.ms * num_items
