"""Measures durations: of each step of a publication, and of a label."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple


class Clocks(NamedTuple):
    """Two clocks, in seconds: the elapsed time, and the processor time that the calling thread has used."""

    elapsed_s: Callable[[], float] = time.monotonic
    processor_s: Callable[[], float] = time.thread_time


CLOCKS: Final = Clocks()


class Stopwatch:
    """Measures consecutive steps (laps). `ms` has the duration of each lap in milliseconds, by name."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._since_s = clock_s()
        self.ms: dict[str, float] = {}

    def end(self, name: str) -> None:
        """Ends the current lap as `name`, and begins the next one."""
        now_s = self._clock_s()
        self.ms[name] = round(1e3 * (now_s - self._since_s), 1)
        self._since_s = now_s

    @property
    def total_ms(self) -> float:
        """The sum of all laps."""
        return round(sum(self.ms.values()), 1)


class Pace:
    """Measures the mean processing time of an item, if items are processed in batches."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._num = 0

    def add(self, seconds: float, num_items: int) -> None:
        """Adds a batch of `num_items` items that took `seconds`."""
        if num_items:
            self._total_s += seconds
            self._num += num_items

    @property
    def ms(self) -> float:
        """The mean time of an item in milliseconds; 0 before the first one."""
        return 1e3 * self._total_s / max(self._num, 1)

    def seconds(self, num_items: int) -> float:
        """Returns the estimated time for `num_items` items, in seconds."""
        return 1e-3 * self.ms * num_items
