"""Lets the fetches of a consumer to which nothing comes wait for its next record.

    polls with records ------------> fetches that wait some milliseconds for many records, as configured
    none for IDLE_AFTER_S ---------> fetches that wait IDLE_WAIT_MS for the first record, which then comes at once

A fetch that waits 5 ms is sent 200 times a second, whether there are records or not: on a Zen 4 this took 0.2 of a core
from a replica without events, and nearly as much from the broker. Now they take 0.05 each.

Rejected: fetches that wait for the first record under load too (each record would come by itself), and longer waits
than IDLE_WAIT_MS: a broker answers the requests of a connection one after another, so commits and heartbeats wait
behind a fetch.
"""

import time
from collections.abc import Callable
from typing import Any, Final

IDLE_AFTER_S: Final = 1.0
"""A consumer that gets no record for so long is idle."""

IDLE_WAIT_MS: Final = 100
"""How long the broker holds back a fetch of an idle consumer that has no record."""


class IdleFetches:
    """Sets how long the fetches of `consumer` wait. Belongs to the thread that polls."""

    def __init__(self, consumer: Any, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._options: dict[str, Any] = consumer._fetcher.config  # the library reads it for each fetch
        self._busy = {name: self._options[name] for name in ("fetch_min_bytes", "fetch_max_wait_ms")}
        wait_ms = max(IDLE_WAIT_MS, self._busy["fetch_max_wait_ms"])
        self._idle = {"fetch_min_bytes": 1, "fetch_max_wait_ms": wait_ms}
        self._clock_s = clock_s
        self._busy_until_s = clock_s() + IDLE_AFTER_S

    def note(self, has_records: bool) -> None:
        """Takes note of a poll that has ended."""
        now_s = self._clock_s()
        if has_records:
            self._busy_until_s = now_s + IDLE_AFTER_S
        self._options.update(self._idle if now_s >= self._busy_until_s else self._busy)
