"""Leader election: one learner at a time leads. It holds a lease in the store, which it renews, and finally releases.

    wait: acquire the lease --> lead: a thread renews it three times in its lifetime --> release
                                       '--another learner has acquired it--> check raises StaleEpoch
                                       '--the store has forgotten it--> acquired again, in the next epoch
    any request raises StoreUnavailable --> CircuitBreaker.trip: no more requests --renewed--> CircuitBreaker.reset
    a server is away at the start --> retry_until: retries after 1, 2, 4, ... seconds, with jitter

The lease only avoids double work. Two leaders at a time do no harm, because the store refuses writes of an old epoch
(fencing). The lease is renewed in a thread of its own, since everything else may take longer than its lifetime:
learning, a slow disk, a broker that hangs. If the store was wiped, the leader acquires the lease again and continues.

A learner that was killed is usually started again with the same state folder. It does not wait until the lease of its
predecessor expires: the operating system has freed the lock of the lease file, so the predecessor is dead.

If the store hangs, each request costs a timeout, and one iteration of the loop sends many requests. So the first
timeout opens the circuit breaker, and only the renewing thread tries again. A learner that starts before its servers
waits for them; if it ended, it would only be started again. After an outage of any length it continues within 15 s,
since its pauses are bounded.

Rejected:

- The lease without the epoch: a suspended process does not know that its lease has expired.
- No lease: two learners would make every version twice, and the store would refuse one of each.
- Shorter timeouts in place of the circuit breaker: a slow store would count as unavailable.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from wire.backoff import Backoff
from wire.errors import BusUnavailable, StaleEpoch, StoreRefused, StoreUnavailable
from wire.files import lock_or_close
from wire.store import Lease, Leases
from wire.threads import BackgroundThread

T = TypeVar("T")

BACKOFF = Backoff(first_s=1.0, longest_s=10.0, jitter=0.25)

log = structlog.get_logger("learner")


def retry_until(ask: Callable[[], T], stop: threading.Event) -> T | None:
    """Calls `ask` until the servers answer, and returns its result; None if `stop` is set first.

    `ask` must be idempotent. An outage is logged once. Raises StoreRefused, since waiting would not help.
    """
    is_logged = False
    for num_failures in count(1):
        if stop.is_set():
            break
        try:
            return ask()
        except StoreRefused:
            raise
        except (BusUnavailable, StoreUnavailable) as error:
            if not is_logged:
                log.warning("waiting_for_server", reason=str(error))
                is_logged = True
        stop.wait(BACKOFF.pause_s(num_failures))
    return None


class CircuitBreaker:
    """Stops requests to the store while it is away: it opens with a failed request, and closes with a renewed lease.

    Any thread may read or change it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.allows_requests = True
        """Whether the store answered the last request. Every requester checks it before, and sets it after, a request.
        """

    def trip(self, error: StoreUnavailable) -> None:
        """Stops all requests, since the store did not answer. Logged once for each outage."""
        with self._lock:
            is_first = self.allows_requests
            self.allows_requests = False
        if is_first:
            log.warning("store_unavailable", reason=str(error))

    def reset(self) -> None:
        """Allows requests again, since the store has answered."""
        with self._lock:
            is_first = not self.allows_requests
            self.allows_requests = True
        if is_first:
            log.info("store_available")


class LeaseFile:
    """The lease that was acquired last in a state folder.

    A process that ends, however it ends, frees the lock of the file. So whoever gets the lock knows that the holder of
    the lease is dead. A process that does not get the lock reads no lease and writes none.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = lock_or_close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def read(self) -> Lease | None:
        """Returns the lease of the predecessor; None if there is none, or if a power cut has torn the file."""
        if self._fd is None:
            return None
        try:
            return msgspec.json.decode(os.pread(self._fd, MAX_LEASE_BYTES, 0), type=Lease)
        except msgspec.DecodeError:
            return None

    def write(self, lease: Lease) -> None:
        """Replaces the lease. It is not synced: if it is lost, the successor waits until the lease expires."""
        if self._fd is not None:
            content = msgspec.json.encode(lease)
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))

    def close(self) -> None:
        """Frees the lock. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


MAX_LEASE_BYTES = 4096

RENEWALS = 3
"""Number of renewals in the lifetime of a lease."""


class Leadership:
    """Acquires and renews the lease of this process, and has the circuit breaker of the store.

    `highest_epoch` returns the highest epoch of all checkpoints. A new lease gets a higher epoch, even if the store was
    wiped and counts epochs from the start again. `file` is the lease file of the state folder, if there is one.
    """

    def __init__(
        self,
        leases: Leases,
        name: str,
        holder: str,
        *,
        ttl_ms: int,
        highest_epoch: Callable[[], int] = lambda: 0,
        file: LeaseFile | None = None,
    ) -> None:
        self._leases = leases
        self._name = name
        self._holder = holder
        self._ttl_ms = ttl_ms
        self._highest_epoch = highest_epoch
        self._file = file
        self._predecessor = file.read() if file else None
        self.lease: Lease
        """The lease that was acquired last; unset before `wait` has returned True."""
        self._has_lease = False
        self._is_over = threading.Event()
        self._renewing = threading.Lock()
        self.breaker = CircuitBreaker()

    @property
    def holder(self) -> str:
        """The name of this process."""
        return self._holder

    def acquire(self) -> bool:
        """Tries to acquire the lease now. Returns False if another process has it, or if the store is away."""
        try:
            if self._predecessor is not None:
                self._leases.release(self._predecessor)
                self._predecessor = None
            above = self._highest_epoch()
            lease = self._leases.acquire(self._name, self._holder, self._ttl_ms, above=above)
        except StoreUnavailable as error:
            self.breaker.trip(error)
            return False
        self.breaker.reset()
        self._has_lease = lease is not None
        if lease is not None:
            self._adopt(lease)
        return self._has_lease

    def wait(self, stop: threading.Event) -> bool:
        """Waits until this process has the lease. Returns False if `stop` is set first.

        consumes: the lease of the name
        produces: a leadership
        waits for: a third of the lifetime of a lease at a time; longer after failures of the store
        unblocked by: `stop`, at once
        """
        is_logged = False
        num_failures = 0
        while not stop.is_set():
            if self.acquire():
                return True
            if self.breaker.allows_requests and not is_logged:
                log.info("standing_by", lease=self._name)
                is_logged = True
            num_failures = 0 if self.breaker.allows_requests else num_failures + 1
            stop.wait(BACKOFF.pause_s(num_failures) if num_failures else self.interval_s)
        return False

    @contextmanager
    def renewal(self) -> Iterator[None]:
        """Renews the lease in a thread of its own until the end of the block."""
        thread = BackgroundThread(lambda: self._keep(thread.closing), name="lease")
        thread.start()
        try:
            yield
        finally:
            thread.close()

    def on_refusal(self, lease: Lease, error: StaleEpoch) -> None:
        """Handles the refusal of a write under `lease`: raises `error`, unless this process has a newer lease."""
        self.confirm()
        if self.lease is lease:
            raise error

    def check(self) -> None:
        """Raises StaleEpoch if the last renewal has shown that another process has the lease. Sends no request."""
        if self._is_over.is_set():
            raise StaleEpoch(f"{self._name}: epoch {self.lease.epoch} is over, since another process has the lease")

    def confirm(self) -> None:
        """Renews the lease now, before something is written that other processes read. Raises StaleEpoch.

        If the store is away, the learner continues: learning affects no other process, and the epoch fences all writes.
        """
        # During an outage the renewing thread holds the lock while its request hangs. Do not wait for the lock then.
        if self.breaker.allows_requests:
            with self._renewing:
                # The renewing thread may have tripped the breaker meanwhile.
                if self.breaker.allows_requests:
                    self._renew()
        self.check()

    def release(self) -> None:
        """Releases the lease, so that the next learner leads at once. If the store is away, the lease expires."""
        if not self._has_lease or not self.breaker.allows_requests:
            return
        try:
            self._leases.release(self.lease)
        except StoreUnavailable as error:
            self.breaker.trip(error)

    @property
    def interval_s(self) -> float:
        """Time between two renewals."""
        return 1e-3 * self._ttl_ms / RENEWALS

    def _keep(self, closing: threading.Event) -> None:
        """Renews until the block ends, or another learner leads.

        consumes: nothing
        produces: a later end of the lease; the state of the circuit breaker
        waits for: a third of the lifetime of the lease
        unblocked by: the end of that third, the end of the block
        """
        while not closing.wait(self.interval_s) and not self._is_over.is_set():
            with self._renewing:
                self._renew()

    def _renew(self) -> None:
        """Renews the lease once. The caller must hold the lock `_renewing`.

        Without the lock, two threads could both acquire a lease again that the store has forgotten. Each would take the
        other's lease for the lease of another process.
        """
        try:
            is_ours = self._leases.renew(self.lease) or self._reacquire()
        except StoreUnavailable as error:
            self.breaker.trip(error)
            return
        self.breaker.reset()
        if not is_ours:
            self._is_over.set()

    def _reacquire(self) -> bool:
        """Acquires the lease again, which the store has forgotten. False if another learner leads or has led."""
        epoch = self.lease.epoch
        above = max(epoch, self._highest_epoch())
        lease = self._leases.acquire(self._name, self._holder, self._ttl_ms, above=above)
        if lease is None:
            return False
        # Any other epoch than the next one means that another learner has led since.
        if lease.epoch != epoch + 1:
            self._leases.release(lease)
            return False
        self._adopt(lease)
        log.warning("lease_retaken", lease=self._name, epoch=lease.epoch)
        return True

    def _adopt(self, lease: Lease) -> None:
        self.lease = lease
        if self._file is not None:
            self._file.write(lease)
