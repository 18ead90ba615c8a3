"""A circuit breaker: it keeps the learner's loop from a store that does not answer.

    any request gets StoreUnavailable -> trip -> the loop sends no requests -> the lease is renewed -> reset

A store that hangs costs every request a timeout. The loop sends many requests in one turn, so the first timeout keeps
back all others, and only the thread that renews the lease goes on trying.

Rejected: shorter timeouts (a store that is merely slow would then count as away), and a thread for every request.
"""

import threading

import structlog

from wire.errors import StoreUnavailable

log = structlog.get_logger("learner")


class CircuitBreaker:
    """Knows whether the store answers. Any thread may read or change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allows_requests = True

    @property
    def allows_requests(self) -> bool:
        """Whether the store has answered the last request, as far as is known."""
        return self._allows_requests

    def trip(self, error: StoreUnavailable) -> None:
        """Allows no more requests, since the store did not answer. Logged once for each outage."""
        with self._lock:
            is_first = self._allows_requests
            self._allows_requests = False
        if is_first:
            log.warning("store_unavailable", reason=str(error))

    def reset(self) -> None:
        """Allows requests again, since the store has answered."""
        with self._lock:
            is_first = not self._allows_requests
            self._allows_requests = True
        if is_first:
            log.info("store_available")
