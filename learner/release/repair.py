"""Writes blobs again that the store has lost or damaged, where the learner has the bytes or can make them again.

    replicas' reports --damaged-------.
    a publication is refused ---------+--> digests --cache, else the checkpoint of its version--> store.blobs.repair
    now and then, the current version-'

A blob that never changes is named by every version and written once. So without the learner nobody would notice that it
is damaged until a replica starts and cannot load anything. A repair is idempotent: the store compares before it writes.

Rejected: publishing another version instead (it names the same encoder), and verifying before each publication (an
encoder that never changes would be fetched for every version).
"""

import time
from collections.abc import Callable, Iterator

import structlog

from learner.export import StoredTensor
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from learner.release.store_turns import StoreTurns
from wire.errors import NotFound
from wire.records import WeightManifest
from wire.store import Store

PAUSE_S = 10.0
"""A digest that was checked is left alone for so long: a report stays in the store for some seconds."""

log = structlog.get_logger("learner")


class Repairer:
    """Belongs to the learner's thread; `repair` takes as long as reading what is suspect."""

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
        self._verify_every_s = verify_every_s
        self._clock_s = clock_s
        self._turns = StoreTurns(
            leadership, learner.counts, count="repairs_failed", event="repair_failed", clock_s=clock_s
        )
        self._verify_at_s = clock_s() + verify_every_s
        self._checked_at_s: dict[str, float] = {}

    def repair(self) -> None:
        """Repairs the blobs that are suspect, now and then."""
        self._turns.take(self._repair_suspects)

    def _repair_suspects(self) -> None:
        for digest in sorted(self._suspects()):
            self._repair_blob(digest)

    def _suspects(self) -> set[str]:
        if self._verify_every_s and self._clock_s() >= self._verify_at_s:
            self._verify_at_s = self._clock_s() + self._verify_every_s
            self._suspect_all()
        long_ago_s = self._clock_s() - PAUSE_S
        self._checked_at_s = {digest: at_s for digest, at_s in self._checked_at_s.items() if at_s > long_ago_s}
        reported = set[str]()
        for report in self._store.reports.replicas():
            reported |= set(report.damaged)
        return self._publisher.cache.suspects | (reported - self._checked_at_s.keys())

    def _suspect_all(self) -> None:
        """Suspects every tensor of the current version, so that it is verified."""
        current = self._publisher.last
        if current is not None:
            self._publisher.cache.suspect(current.tensors)

    def _repair_blob(self, digest: str) -> None:
        cache = self._publisher.cache
        counts = self._learner.counts
        stored = cache.of(digest) or self._remake(digest)
        if stored is None:
            counts["blobs_not_at_hand"] += 1
            log.error("blob_not_at_hand", digest=digest)
        elif self._store.blobs.repair(stored.tensor.to_blob()):
            counts["blobs_repaired"] += 1
            log.warning("blob_repaired", tensor=stored.entry.name, digest=digest)
        cache.suspects.discard(digest)
        self._checked_at_s[digest] = self._clock_s()

    def _remake(self, digest: str) -> StoredTensor | None:
        """Makes the tensor under `digest` again, from the checkpoint of a version in force that names it, if any."""
        for manifest in self._versions_in_force():
            if any(entry.digest == digest for entry in manifest.tensors):
                self._publisher.refill_cache(manifest)
        return self._publisher.cache.of(digest)

    def _versions_in_force(self) -> Iterator[WeightManifest]:
        plan = self._store.plans.read()
        for version in sorted({self._learner.version, *(plan.needed if plan else ())}):
            try:
                yield self._store.versions.manifest(version)
            except NotFound:
                continue
