"""Writes again what the store has lost or damaged, where the learner has the bytes or can make them again.

    replicas' reports --damaged--.
    a publication is refused -----+--> digests --stock, else the checkpoint of its version--> store.repair_blob
    now and then, all of ours ---'

A blob that never changes is named by every version and written once, so nobody but us would ever notice that it is
damaged until a replica starts and cannot load anything. The store compares before it writes, so asking twice is
harmless.

Rejected: to publish another version instead (it names the same encoder), and to verify before each publication (an
encoder that never changes would be fetched for every version).
"""

import time
from collections.abc import Callable, Iterator

import structlog

from learner.export import Stored
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from wire.errors import NotFound, StoreUnavailable, WireError
from wire.records import WeightManifest
from wire.store import Store

INTERVAL_S = 1.0
"""Time between two looks into the reports."""

AGAIN_S = 10.0
"""A digest that was looked at is left alone for so long: reports live on for some seconds."""

log = structlog.get_logger("learner")


class Repairer:
    """Belongs to the learner's thread; `look` takes as long as reading what is suspect."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        verify_every_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._publisher = publisher
        self._leadership = leadership
        self._verify_every_s = verify_every_s
        self._clock_s = clock_s
        self._next_s = 0.0
        self._verify_at_s = clock_s() + verify_every_s
        self._looked_at_s: dict[str, float] = {}

    def look(self) -> None:
        """Repair what is known to be damaged, at most every INTERVAL_S, while the store is there."""
        if self._clock_s() < self._next_s or not self._leadership.reach.is_open:
            return
        self._next_s = self._clock_s() + INTERVAL_S
        try:
            for digest in sorted(self._suspects()):
                self._repair(digest)
        except StoreUnavailable as error:
            self._leadership.reach.lost(error)
        except WireError as error:
            self._learner.counts["repairs_failed"] += 1
            log.warning("repair_failed", reason=str(error))

    def _suspects(self) -> set[str]:
        if self._verify_every_s and self._clock_s() >= self._verify_at_s:
            self._verify_at_s = self._clock_s() + self._verify_every_s
            self._publisher.suspect_all()
        long_ago_s = self._clock_s() - AGAIN_S
        self._looked_at_s = {digest: at_s for digest, at_s in self._looked_at_s.items() if at_s > long_ago_s}
        reported = {digest for report in self._store.reports() for digest in report.damaged}
        return self._publisher.stock.suspects | (reported - self._looked_at_s.keys())

    def _repair(self, digest: str) -> None:
        stock = self._publisher.stock
        counts = self._learner.counts
        stored = stock.of(digest) or self._remade(digest)
        if stored is None:
            counts["blobs_not_at_hand"] += 1
            log.error("blob_not_at_hand", digest=digest)
        elif self._store.repair_blob(stored.tensor.to_blob()):
            counts["blobs_repaired"] += 1
            log.warning("blob_repaired", tensor=stored.entry.name, digest=digest)
        stock.suspects.discard(digest)
        self._looked_at_s[digest] = self._clock_s()

    def _remade(self, digest: str) -> Stored | None:
        """The tensor, where the checkpoint of a version that names it still leads to it."""
        for manifest in self._in_force():
            if any(entry.digest == digest for entry in manifest.tensors):
                self._publisher.restock(manifest)
        return self._publisher.stock.of(digest)

    def _in_force(self) -> Iterator[WeightManifest]:
        plan = self._store.plan()
        for version in sorted({self._learner.version, *(plan.needed if plan else ())}):
            try:
                yield self._store.manifest(version)
            except NotFound:
                continue
