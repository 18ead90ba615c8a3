"""From what the learner knows to a version that replicas take; nothing in between can be half done.

    is_due -> solve, requantize, evaluate -> gate -> blobs -> checkpoint (pending version, offsets) -> publish -> settle

The last step waits until the store has it on disk, up to a second where Redis syncs once a second. It waits in a thread
of its own, so that labels do not; nothing else happens there, and there is at most one.

A kill before the checkpoint leaves the old state, which reads the same labels again. A kill after it finds `pending`
in the checkpoint: if the store has that version it is marked, otherwise it is made and published again from the same
state.

The store's pointer is the truth. If it went back to an older version, a rollout has withdrawn ours: the learner returns
to the snapshot of that version, keeps its offsets and counts the labels in between as set aside. If it is ahead, our
checkpoint is older than the last publication: the learner reads on to where that version was, and publishes then.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from learner import gate
from learner.candidate import Candidate, Maker
from learner.checkpoint import Checkpoints
from learner.config import LearnerConfig
from learner.errors import CheckpointFailed, CheckpointRefused
from learner.failpoints import failpoint
from learner.learner import Learner
from learner.steps import Steps
from model.errors import NonFinite
from wire.errors import BadSignature, BlobCorrupt, NotFound, ParentMoved, StoreUnavailable, UnknownFormat
from wire.records import WeightManifest
from wire.store import Lease, Store

COLLECT_EVERY = 16
"""Publications between two removals of old versions from the store."""

KEPT_VERSIONS = 16
"""Newest versions that stay in the store besides those in the rollout plan."""

PUBLISHED_AT = "published_at"
"""Counter: how many changes the learner had seen at the last publication."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A publication that waits for the store."""

    manifest: WeightManifest
    candidate: Candidate
    num_changes: int
    steps: Steps
    sent: Future[None]


class Publisher:
    """Publishes what `learner` knows, at most once per interval. Belongs to the learner's thread."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        lease: Lease,
        *,
        config: LearnerConfig,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner, self._store, self._checkpoints, self._lease = learner, store, checkpoints, lease
        self._config, self._now_ms, self._clock_s = config, now_ms, clock_s
        self._limits = gate.Limits(
            min_held_back=config.min_held_back,
            accuracy_tolerance=config.accuracy_tolerance,
            min_parity_cosine=config.min_parity_cosine,
            min_parity_agreement=config.min_parity_agreement,
        )
        self._maker = Maker(config)
        self._pending: WeightManifest | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._flight: Flight | None = None
        self._seen, self._is_forced = -1, False
        self._not_before_s = 0.0
        self._checkpoint_at_s, self._written = 0.0, learner.offsets
        self._read_first: dict[str, int] = {}
        self.last_ms: dict[str, float] = {}

    @property
    def last(self) -> Candidate | None:
        """What was published last by this process."""
        return self._maker.parent

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Find out where a restored learner stands. `ends`: the last offsets that can be read now."""
        current = self._store.current()
        self._seen = self._learner.counts.get(PUBLISHED_AT, -1)
        if pending is not None and self._is_stored(pending):
            self._mark(pending, self._num_changes)
            self._maker.parent = self._maker.make(self._learner, Steps())
        elif pending is not None or not current:
            self._is_forced = True
        if current > self._learner.version:
            self._read_on(current, ends)

    def force(self) -> None:
        """Publish at the next opportunity, new labels or not."""
        self._is_forced = True

    def forget_unreachable(self) -> None:
        """The bus has lost records: do not wait for them."""
        self._read_first = {}

    def is_due(self) -> bool:
        """Whether there is something to publish, the interval is over, and nothing has to be read before."""
        if self._flight is not None or self._clock_s() < self._not_before_s:
            return False
        offsets = self._learner.offsets
        is_behind = any(offsets.get(partition, 0) < offset for partition, offset in self._read_first.items())
        return not is_behind and (self._is_forced or self._num_changes != self._seen)

    def publish(self) -> None:
        """Start a publication, or count why not."""
        self._not_before_s = self._clock_s() + self._config.publish_interval_s
        try:
            current = self._store.current()
            if current != self._learner.version:
                self._follow_pointer(current)
            elif (candidate := self._candidate(steps := Steps())) is not None:
                self._launch(candidate, steps)
        except (ParentMoved, StoreUnavailable, CheckpointFailed, NotFound) as error:
            self._retry(type(error).__name__, error)

    def settle(self, *, wait: bool = False) -> None:
        """End the publication under way, if it has ended or `wait`. Raises StaleEpoch: another learner leads."""
        flight = self._flight
        if flight is None or not (wait or flight.sent.done()):
            return
        try:
            flight.sent.result()
        except (ParentMoved, StoreUnavailable, NotFound) as error:
            self._retry(type(error).__name__, error)
            return
        finally:
            self._flight = None
        flight.steps.end("publish")
        self._mark(flight.manifest, flight.num_changes)
        self._maker.published(flight.candidate, self._learner)
        failpoint("after-mark")
        self._tidy()
        flight.steps.end("tidy")
        self.last_ms = flight.steps.ms
        accuracy = flight.candidate.evaluation.accuracy
        log.info("published", version=flight.manifest.version, ms=flight.steps.total_ms, accuracy=accuracy)

    def checkpoint_if_due(self) -> None:
        """Write everything down now and then, so that a restart does not read for long where nothing is published."""
        if self._clock_s() >= self._checkpoint_at_s and self._learner.offsets != self._written:
            try:
                self._checkpoint(None)
            except CheckpointFailed as error:
                self._retry(type(error).__name__, error)
            self._checkpoint_at_s = self._clock_s() + self._config.checkpoint_interval_s

    def finish(self) -> None:
        """Publish what is new and write everything down: the process ends."""
        self.settle(wait=True)
        if self._num_changes != self._seen:
            self.publish()
            self.settle(wait=True)
        self._checkpoint_at_s = 0.0
        self.checkpoint_if_due()

    def _checkpoint(self, pending: WeightManifest | None) -> None:
        self._checkpoints.write(self._learner.export(pending))
        self._written = self._learner.offsets
        self._checkpoint_at_s = self._clock_s() + self._config.checkpoint_interval_s

    def _launch(self, candidate: Candidate, steps: Steps) -> None:
        manifest, num_changes = self._manifest(candidate), self._num_changes
        failpoint("after-requantize")
        self._put(candidate)
        steps.end("blobs")
        self._learner.last_version = manifest.version
        self._pending = manifest
        self._is_forced = False
        self._checkpoint(manifest)
        failpoint("after-checkpoint")
        steps.end("checkpoint")
        sent = self._thread.submit(self._send, manifest)
        self._flight = Flight(manifest=manifest, candidate=candidate, num_changes=num_changes, steps=steps, sent=sent)

    def _send(self, manifest: WeightManifest) -> None:
        self._store.publish(manifest, self._lease)
        failpoint("after-publish")

    def _candidate(self, steps: Steps) -> Candidate | None:
        """What to publish; None, and a count, when the gate refuses it."""
        num_changes = self._num_changes
        try:
            candidate = self._maker.make(self._learner, steps)
            refusals = gate.refusals(
                candidate.evaluation, candidate.precisions[0], self._limits, is_finite=candidate.is_finite
            )
        except NonFinite as error:
            log.warning("not_finite", reason=str(error))
            candidate, refusals = None, ["not_finite"]
        failpoint("after-evaluate")
        if not refusals:
            return candidate
        self._learner.counts.update(f"gate_{reason}" for reason in refusals)
        self._seen, self._is_forced = num_changes, False
        log.warning("refused", reasons=refusals, evaluation=candidate.evaluation if candidate else None)
        return None

    def _manifest(self, candidate: Candidate) -> WeightManifest:
        learner, shape = self._learner, candidate.served.config
        return WeightManifest(
            version=max(self._store.next_version(), learner.last_version + 1),
            parent=learner.version,
            model_spec=learner.model_spec,
            config=shape.canonical_json(),
            labels=candidate.classes,
            precisions=candidate.precisions,
            tensors=tuple(candidate.tensors[name].entry for name in sorted(candidate.tensors)),
            probes=candidate.probes,
            trained_through=dict(learner.offsets),
            evaluation=candidate.evaluation,
            epoch=self._lease.epoch,
            created_ms=self._now_ms(),
        )

    def _put(self, candidate: Candidate) -> None:
        """Send the blobs that the store does not have."""
        digests = {it.entry.digest: it for it in candidate.tensors.values()}
        for digest in digests.keys() - self._store.has_blobs(digests):
            self._store.put_blob(digests[digest].tensor.to_blob())
            failpoint("after-blob")

    def _mark(self, manifest: WeightManifest, num_changes: int) -> None:
        """`manifest` is the version that the learner goes on from; `num_changes` had been seen when it was made."""
        self._learner.version = manifest.version
        self._learner.last_version = max(self._learner.last_version, manifest.version)
        self._learner.counts["published"] += 1
        self._pending = None
        self._is_told(num_changes)

    def _is_told(self, num_changes: int) -> None:
        """The current version says all that the learner knew at `num_changes`."""
        self._seen = self._learner.counts[PUBLISHED_AT] = num_changes

    def _tidy(self) -> None:
        """Remove checkpoints and versions that nothing can return to."""
        try:
            plan = self._store.plan()
            kept = {self._learner.version, *(plan.versions if plan else ()), plan.previous if plan else 0}
            self._checkpoints.prune(kept)
            if self._learner.counts["published"] % COLLECT_EVERY == 0:
                newest = self._learner.version
                self._store.collect(range(newest - KEPT_VERSIONS + 1, newest + 1))
        except (StoreUnavailable, BadSignature, UnknownFormat, BlobCorrupt) as error:
            self._learner.counts["tidy_failed"] += 1
            log.warning("tidy_failed", reason=str(error))

    def _follow_pointer(self, current: int) -> None:
        """The current version is not the one that we learn on from."""
        learner, pending = self._learner, self._pending
        if pending is not None and current == pending.version and self._is_stored(pending):
            self._mark(pending, self._seen)  # it was published, but the reply was lost; what came since is new
        elif current == 0:
            learner.version, self._is_forced = 0, True  # the store was wiped: publish again what we know
        elif current > learner.version:
            self._read_on(current, {})
        else:
            self._return_to(current)

    def _return_to(self, current: int) -> None:
        learner = self._learner
        self._maker.parent = None
        try:
            snapshot = self._checkpoints.of_version(current)
            if snapshot is not None:
                learner.set_aside(snapshot, current)
                self._maker.parent = self._maker.make(learner, Steps())
        except CheckpointRefused as error:
            log.warning("snapshot_refused", version=current, reason=str(error))
        if learner.version != current:
            learner.counts["snapshot_missing"] += 1
            learner.version = current
        self._is_told(self._num_changes)
        log.warning("went_back", version=current, set_aside=learner.counts["set_aside"])

    def _read_on(self, current: int, ends: Mapping[str, int]) -> None:
        through = self._store.manifest(current).trained_through
        self._read_first = {name: min(offset, ends.get(name, offset)) for name, offset in through.items()}
        self._learner.version = current
        log.warning("reading_on", version=current, through=self._read_first)

    def _is_stored(self, manifest: WeightManifest) -> bool:
        """Whether the store has this very version, whichever of our epochs published it."""
        try:
            found = self._store.manifest(manifest.version)
        except NotFound:
            return False
        return (found.tensors, found.trained_through) == (manifest.tensors, manifest.trained_through)

    def _retry(self, reason: str, error: Exception) -> None:
        self._learner.counts[f"failed_{reason}"] += 1
        self._is_forced = True
        self._not_before_s = self._clock_s() + 1e-3 * self._config.retry_backoff_ms
        log.warning("publish_failed", reason=reason, detail=str(error))

    @property
    def _num_changes(self) -> int:
        """Grows with everything that makes the next version another one."""
        counts = self._learner.counts
        return counts["learnt"] + counts["set_aside"] + counts["rounds_adopted"]
