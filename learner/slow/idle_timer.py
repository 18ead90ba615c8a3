"""Notices that no label comes any more: then there is time to rehearse."""

import time
from collections.abc import Callable, Iterable

from wire.records import Answer, Feedback


class IdleTimer:
    """`after(records)` says whether the last label lies `after_s` seconds back; never for 0."""

    def __init__(self, after_s: float, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._after_s = after_s
        self._clock_s = clock_s
        self._last_s = clock_s()

    def after(self, records: Iterable[Answer | Feedback]) -> bool:
        if any(isinstance(record, Feedback) for record in records):
            self._last_s = self._clock_s()
        return 0 < self._after_s <= self._clock_s() - self._last_s
