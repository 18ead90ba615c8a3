"""An idle timer: notices that no label comes any more, so that there is time to rehearse."""

import time
from collections.abc import Callable, Iterable

from wire.records import Answer, Feedback


class IdleTimer:
    """Measures the time since the last label. `idle_after_s` of 0 means that the learner is never idle."""

    def __init__(self, idle_after_s: float, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._idle_after_s = idle_after_s
        self._clock_s = clock_s
        self._last_s = clock_s()

    def is_idle_after(self, records: Iterable[Answer | Feedback]) -> bool:
        """Takes in what was read last. Whether no label has come for `idle_after_s` seconds."""
        if any(isinstance(record, Feedback) for record in records):
            self._last_s = self._clock_s()
        idle_s = self._clock_s() - self._last_s
        return self._idle_after_s > 0 and idle_s >= self._idle_after_s
