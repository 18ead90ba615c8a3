"""Who leads: the lease, taken, kept, given back. Fencing is the store's; this only keeps us from wasting work.

    wait -> kept: a thread renews, three times in the life of the lease -> another's: check raises -> release
                                                                        -> nobody's: taken again, in the next epoch

The thread is of its own because whatever else the learner does may take longer than the lease lives: to learn, to wait
for a disk, or for a broker that hangs. A server that was wiped knows no lease: whoever led and is still there goes on.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from learner.patience import pauses
from learner.reach import Reach
from wire.errors import StaleEpoch, StoreUnavailable
from wire.store import Lease, Store

RENEWALS = 3
"""Renewals in the life of a lease."""

log = structlog.get_logger("learner")


class Leadership:
    """The lease of one process, and the `reach` of the store that it is in.

    `highest_epoch` tells the highest epoch that anything was written under elsewhere: ours is above it.
    """

    def __init__(
        self, store: Store, name: str, holder: str, *, ttl_ms: int, highest_epoch: Callable[[], int] = lambda: 0
    ) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self._ttl_ms = ttl_ms
        self._highest_epoch = highest_epoch
        self._lease: Lease | None = None
        self._is_over = threading.Event()
        self._renewing = threading.Lock()
        self.reach = Reach()

    @property
    def lease(self) -> Lease:
        assert self._lease is not None, "wait() has not returned True"
        return self._lease

    @property
    def holder(self) -> str:
        """The name of this process."""
        return self._holder

    def acquire(self) -> bool:
        """Try to take the lease now. False while another has it, or the store is away."""
        try:
            above = self._highest_epoch()
            self._lease = self._store.acquire(self._name, self._holder, self._ttl_ms, above=above)
        except StoreUnavailable as error:
            self.reach.lost(error)
            return False
        self.reach.found()
        return self._lease is not None

    def wait(self, stop: threading.Event) -> bool:
        """Wait for the lease. False when `stop` came first."""
        is_told = False
        away_s = pauses()
        while not stop.is_set():
            if self.acquire():
                return True
            if self.reach.is_open and not is_told:
                log.info("standing_by", lease=self._name)
                is_told = True
            if self.reach.is_open:
                away_s = pauses()
            stop.wait(self.interval_s if self.reach.is_open else next(away_s))
        return False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease in a thread of its own until the end of the block."""
        closing = threading.Event()
        thread = threading.Thread(target=self._keep, args=(closing,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            closing.set()
            thread.join()

    def refused(self, lease: Lease, error: StaleEpoch) -> None:
        """What was written under `lease` was refused. Raises `error`, unless ours is a newer one meanwhile."""
        self.confirm()
        if self.lease is lease:
            raise error

    def check(self) -> None:
        """Raises StaleEpoch when the lease is known to be another's. Asks nobody."""
        if self._is_over.is_set():
            raise StaleEpoch(f"{self._name}: epoch {self.lease.epoch} is over")

    def confirm(self) -> None:
        """Renew the lease now, before something is written that others would believe. Raises StaleEpoch.

        A store that is away changes nothing: what we learn stays ours, and what we write is fenced by its epoch.
        """
        with self._renewing:
            if self.reach.is_open:  # the other thread may just have found that it is not
                self._renew()
        self.check()

    def release(self) -> None:
        """Let the next one lead at once; where the store is away, the lease runs out by itself."""
        if self._lease is None or not self.reach.is_open:
            return
        try:
            self._store.release(self._lease)
        except StoreUnavailable as error:
            self.reach.lost(error)

    @property
    def interval_s(self) -> float:
        return 1e-3 * self._ttl_ms / RENEWALS

    def _keep(self, closing: threading.Event) -> None:
        """Renew until the block ends, or another leads.

        consumes: nothing
        produces: a later end of the lease; the reach of the store
        waits for: a third of the lease's life
        unblocked by: its end, the end of the block
        """
        while not closing.wait(self.interval_s) and not self._is_over.is_set():
            with self._renewing:
                self._renew()

    def _renew(self) -> None:
        """Called by one thread at a time: who takes the lease again must not find that the other has just done so."""
        try:
            is_ours = self._store.renew(self.lease) or self._retakes()
        except StoreUnavailable as error:
            self.reach.lost(error)
            return
        self.reach.found()
        if not is_ours:
            self._is_over.set()

    def _retakes(self) -> bool:
        """Take the lease again where nobody has led since ours: the server has forgotten it."""
        ours = self.lease.epoch
        above = max(ours, self._highest_epoch())
        lease = self._store.acquire(self._name, self._holder, self._ttl_ms, above=above)
        if lease is None:
            return False
        if lease.epoch != ours + 1:
            self._store.release(lease)
            return False
        self._lease = lease
        log.warning("lease_retaken", lease=self._name, epoch=lease.epoch)
        return True
