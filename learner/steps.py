"""How long each step of a publication took."""

import time
from collections.abc import Callable


class Steps:
    """A stopwatch with laps. `end(name)` ends the lap that began with the last one; `ms` has them all."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s, self._since_s = clock_s, clock_s()
        self.ms: dict[str, float] = {}

    def end(self, name: str) -> None:
        now_s = self._clock_s()
        self.ms[name] = round(1e3 * (now_s - self._since_s), 1)
        self._since_s = now_s

    @property
    def total_ms(self) -> float:
        return round(sum(self.ms.values()), 1)
