"""The reach of the store: a circuit breaker that keeps the learner's loop from a store that does not answer.

    any request gets StoreUnavailable -> lost -> the loop sends no requests -> the lease is renewed -> found

In the words of that pattern, the breaker is closed while `is_open`: then requests may pass.

A store that hangs costs every request a timeout. The loop sends many requests in one turn, so the first timeout keeps
back all others, and only the thread that renews the lease goes on trying.

Rejected: shorter timeouts (a store that is merely slow would then count as away), and a thread for every request.
"""

import threading

import structlog

from wire.errors import StoreUnavailable

log = structlog.get_logger("learner")


class Reach:
    """Knows whether the store answers. Any thread may read or change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether the store has answered the last request, as far as is known."""
        return self._is_open

    def lost(self, error: StoreUnavailable) -> None:
        """Notes that the store did not answer. Logged once for each outage."""
        with self._lock:
            was_open = self._is_open
            self._is_open = False
        if was_open:
            log.warning("store_unavailable", reason=str(error))

    def found(self) -> None:
        """Notes that the store answered."""
        with self._lock:
            was_open = self._is_open
            self._is_open = True
        if not was_open:
            log.info("store_available")
