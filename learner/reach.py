"""Whether the store answers: known to everybody who is about to ask it.

    whoever gets StoreUnavailable -> lost -> nobody of the loop asks -> the thread of the lease is answered -> found

A store that hangs costs whoever asks it a timeout. The loop asks for many things in one turn, so the first timeout
closes the way for all of them, and only the thread that renews the lease goes on trying.

Rejected: shorter timeouts (a store that is merely slow would then count as away), and a thread for every question.
"""

import threading

import structlog

from wire.errors import StoreUnavailable

log = structlog.get_logger("learner")


class Reach:
    """Open while the store answers. Any thread may ask or say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def is_open(self) -> bool:
        return self._is_open

    def lost(self, error: StoreUnavailable) -> None:
        """The store did not answer: said once for each outage."""
        with self._lock:
            was_open = self._is_open
            self._is_open = False
        if was_open:
            log.warning("store_unavailable", reason=str(error))

    def found(self) -> None:
        """The store answered."""
        with self._lock:
            was_open = self._is_open
            self._is_open = True
        if not was_open:
            log.info("store_available")
