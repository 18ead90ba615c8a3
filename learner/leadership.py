"""Who leads: the lease, taken, renewed, given back. Fencing is the store's; this only keeps us from wasting work."""

import threading
import time
from collections.abc import Callable

import structlog

from wire.errors import StaleEpoch, StoreUnavailable
from wire.store import Lease, Store

RENEWALS = 3
"""Renewals in the life of a lease."""

log = structlog.get_logger("learner")


class Leadership:
    """The lease of one process."""

    def __init__(
        self, store: Store, name: str, holder: str, *, ttl_ms: int, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._name, self._holder, self._ttl_ms, self._clock_s = store, name, holder, ttl_ms, clock_s
        self._lease: Lease | None = None
        self._renew_at_s = 0.0

    @property
    def lease(self) -> Lease:
        assert self._lease is not None, "wait() has not returned True"
        return self._lease

    def acquire(self) -> bool:
        """Try to take the lease now. False while another has it, or the store is away."""
        try:
            self._lease = self._store.acquire(self._name, self._holder, self._ttl_ms)
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=str(error))
            return False
        self._renew_at_s = self._clock_s() + self.interval_s
        return self._lease is not None

    def wait(self, stop: threading.Event) -> bool:
        """Wait for the lease. False when `stop` came first."""
        is_told = False
        while not stop.is_set():
            if self.acquire():
                return True
            if not is_told:
                log.info("standing_by", lease=self._name)
                is_told = True
            stop.wait(self.interval_s)
        return False

    def renew(self) -> None:
        """Prolong the lease when a third of its life is over. Raises StaleEpoch when another has it.

        A store that is away changes nothing: what we learn stays ours, and a publication is fenced by its epoch.
        """
        if self._clock_s() < self._renew_at_s:
            return
        self._renew_at_s = self._clock_s() + self.interval_s
        try:
            if not self._store.renew(self.lease):
                raise StaleEpoch(f"{self._name}: epoch {self.lease.epoch} is over")
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=str(error))

    def release(self) -> None:
        """Let the next one lead at once; where the store is away, the lease runs out by itself."""
        try:
            if self._lease is not None:
                self._store.release(self._lease)
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=str(error))

    @property
    def interval_s(self) -> float:
        return 1e-3 * self._ttl_ms / RENEWALS
