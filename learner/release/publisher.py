"""From what the learner knows to a version that replicas take; nothing in between can be half done.

    is_due -> solve, requantize, evaluate -> gate -> blobs -> checkpoint (pending version, offsets) -> publish -> settle

The last step waits until the store has it on disk, up to a second where Redis syncs once a second. It waits in a thread
of its own, so that labels do not; nothing else happens there, and there is at most one.

A kill before the checkpoint leaves the old state, which reads the same labels again. A kill after it finds `pending`
in the checkpoint: if the store has that version it is marked, otherwise it is made and published again from the same
state (`learner.release.parent`). Whatever fails, but for the lease, is said once and tried again; while the store is
known to be away it is not asked. Old versions are the rollout controller's to remove; old checkpoints go here.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from learner.config import LearnerConfig
from learner.errors import CheckpointFailed
from learner.export import Stored
from learner.failpoints import failpoint
from learner.leadership import Leadership
from learner.learner import Learner
from learner.quality import gate
from learner.release.candidate import Candidate, Maker
from learner.release.parent import IN_A_ROW, ParentVersion
from learner.release.shipment import manifest_of, put_blobs
from learner.release.tensors import Stock
from learner.state.checkpoint import Checkpoints
from learner.stopwatch import Stopwatch
from model.errors import NonFinite
from wire.errors import BlobCorrupt, NotFound, StaleEpoch, StoreUnavailable, WireError
from wire.records import WeightManifest
from wire.store import Lease, Store

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A publication that waits for the store."""

    manifest: WeightManifest
    candidate: Candidate
    num_changes: int
    steps: Stopwatch
    lease: Lease
    sent: Future[None]


class WeightPublisher:
    """Publishes what `learner` knows, at most once per interval. Belongs to the learner's thread."""

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        leadership: Leadership,
        *,
        config: LearnerConfig,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._leadership = leadership
        self._config = config
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._limits = gate.GateLimits(
            min_held_back=config.min_held_back,
            accuracy_tolerance=config.accuracy_tolerance,
            max_negative_flips=config.max_negative_flips,
            max_head_update=config.max_head_update,
            max_top_update=config.max_top_update,
            min_parity_cosine=config.min_parity_cosine,
            min_parity_agreement=config.min_parity_agreement,
        )
        self._maker = Maker(config)
        self._standing = ParentVersion(learner, store, checkpoints, self._maker)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._flight: Flight | None = None
        self._lease = leadership.lease
        self._not_before_s = 0.0
        self._checkpoint_at_s = 0.0
        self._written = learner.offsets
        self._sync_at_s = 0.0
        self._num_synced = -1
        self._is_synced = False
        self._failure = ""
        self.stock = Stock()
        self._tried: Mapping[str, Stored] = {}
        self._wanted: set[int] | None = None  # versions that the plan names
        self.last_ms: dict[str, float] = {}
        self.refusals: tuple[str, ...] = ()
        """Why the gate refused the last candidate; empty when it let it pass."""

    @property
    def last(self) -> Candidate | None:
        """What was published last by this process."""
        return self._maker.parent

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Find out where a restored learner stands. `ends`: the last offsets that can be read now.

        May be called again after StoreUnavailable.
        """
        self._standing.recover(pending, ends)
        if self.last is not None:
            self.stock.add(self._learner.version, self.last.tensors)

    def claim(self) -> None:
        """Write down what is known before anything else: from now on no earlier leader can bring in what it knew."""
        try:
            self._checkpoint(None)
            self._tidy()
        except CheckpointFailed as error:
            self._retry(error)  # nothing is published without a checkpoint either

    def force(self) -> None:
        """Publish at the next opportunity, new labels or not."""
        self._standing.force()

    def start_over(self) -> None:
        """Something was erased: publish what is left, and compare it with nothing that knew more."""
        self._maker.forget()
        self._standing.force()

    def give_up_refused(self) -> None:
        """Set aside what the gate did not let pass, if there is something."""
        if self._learner.counts[IN_A_ROW]:
            self._standing.give_up()

    def suspect_all(self) -> None:
        """Have all that the current version consists of looked at."""
        if self.last is not None:
            self.stock.suspect(self.last.tensors)

    def restock(self, stored: WeightManifest) -> None:
        """Make the tensors of a version again, unless they are at hand, from its checkpoint, if that is still there."""
        if self.stock.has(stored.version):
            return
        candidate = self._standing.remade(stored)
        if candidate is not None:
            self.stock.add(stored.version, candidate.tensors)

    def hasten(self) -> None:
        """Do not wait for the end of the interval: what is published is out of date."""
        self._not_before_s = 0.0

    def forget_unreachable(self) -> None:
        """The bus has lost records: do not wait for them."""
        self._standing.forget_unreachable()

    def is_due(self) -> bool:
        """Whether there is something to publish, the interval is over, and nothing has to be read before.

        A lease that was taken again is a reason to look: the store may have forgotten the weights with it.
        """
        is_time = self._flight is None and self._clock_s() >= self._not_before_s
        has_reason = self._standing.may_publish or self._leadership.lease is not self._lease
        return is_time and self._leadership.reach.is_open and has_reason

    def publish(self) -> None:
        """Start a publication, or count why not. Raises StaleEpoch: another learner leads."""
        self._not_before_s = self._clock_s() + self._config.publish_interval_s
        try:
            if self._leadership.lease is not self._lease:
                self._lease = self._leadership.lease
                self.claim()
            current = self._store.current()
            if current != self._learner.version:
                self._standing.follow(current)
            elif self._standing.may_publish and (candidate := self._candidate(steps := Stopwatch())) is not None:
                self._launch(candidate, steps)
        except StaleEpoch:
            raise
        except (WireError, CheckpointFailed) as error:
            self._retry(error)

    def settle(self, *, wait: bool = False) -> None:
        """End the publication under way, if it has ended or `wait`. Raises StaleEpoch: another learner leads."""
        flight = self._flight
        if flight is None or not (wait or flight.sent.done()):
            return
        try:
            flight.sent.result()
        except WireError as error:
            if isinstance(error, StaleEpoch):
                self._leadership.refused(flight.lease, error)
            self._retry(error)
            return
        finally:
            self._flight = None
        self._failure = ""
        flight.steps.end("publish")
        self._standing.mark(flight.manifest, flight.num_changes)
        self._maker.published(flight.candidate, self._learner)
        failpoint("after-mark")
        self._tidy()
        flight.steps.end("tidy")
        self.last_ms = flight.steps.ms
        accuracy = flight.candidate.measured.evaluation.accuracy
        log.info("published", version=flight.manifest.version, ms=flight.steps.total_ms, accuracy=accuracy)

    def checkpoint_if_due(self) -> None:
        """Write everything down now and then, so that a restart does not read for long where nothing is published."""
        has_news = self._learner.offsets != self._written or not self._is_synced
        if self._clock_s() >= self._checkpoint_at_s and has_news:
            try:
                self._checkpoint(None)
                self._tidy()
            except CheckpointFailed as error:
                self._retry(error)
            self._checkpoint_at_s = self._clock_s() + self._config.checkpoint_interval_s

    def finish(self) -> None:
        """Publish what is new, if the store is there, and write everything down: the process ends.

        The store costs at most the timeout of one publication: what it does not answer, the next process publishes.
        """
        self.settle(wait=True)
        if self._standing.has_changes and self._leadership.reach.is_open:
            self.publish()
            self.settle(wait=True)
        self._checkpoint_at_s = self._sync_at_s = 0.0
        self.checkpoint_if_due()

    def _checkpoint(self, pending: WeightManifest | None) -> None:
        """Write everything down; on the disk itself now and then, and whenever somebody was erased."""
        learner = self._learner
        now_s = self._clock_s()
        is_synced = now_s >= self._sync_at_s or len(learner.erased) != self._num_synced
        self._leadership.confirm()
        self._checkpoints.write(learner.export(pending, epoch=self._leadership.lease.epoch), is_synced=is_synced)
        self._written = learner.offsets
        self._is_synced = is_synced
        self._checkpoint_at_s = now_s + self._config.checkpoint_interval_s
        if is_synced:
            self._sync_at_s = self._checkpoint_at_s
            self._num_synced = len(learner.erased)

    def _launch(self, candidate: Candidate, steps: Stopwatch) -> None:
        num_changes = self._standing.num_changes
        version = max(self._store.next_version(), self._learner.last_version + 1)
        lease = self._leadership.lease
        manifest = manifest_of(candidate, self._learner, version=version, epoch=lease.epoch, time_ms=self._now_ms())
        failpoint("after-requantize")
        self.stock.add(version, candidate.tensors)
        self._tried = candidate.tensors
        put_blobs(candidate, self._store)
        steps.end("blobs")
        self._standing.launched(manifest)
        self._checkpoint(manifest)
        failpoint("after-checkpoint")
        steps.end("checkpoint")
        sent = self._thread.submit(self._send, manifest, lease)
        self._flight = Flight(
            manifest=manifest, candidate=candidate, num_changes=num_changes, steps=steps, lease=lease, sent=sent
        )

    def _send(self, manifest: WeightManifest, lease: Lease) -> None:
        self._store.publish(manifest, lease)
        failpoint("after-publish")

    def _candidate(self, steps: Stopwatch) -> Candidate | None:
        """What to publish; None, and a count, when the gate refuses it."""
        num_changes = self._standing.num_changes
        try:
            candidate = self._maker.make(self._learner, steps)
            refusals = gate.refusals(candidate.measured, candidate.precisions[0], self._limits)
        except NonFinite as error:
            log.warning("not_finite", reason=str(error))
            candidate = None
            refusals = ["not_finite"]
        failpoint("after-evaluate")
        self.refusals = tuple(refusals)
        if not refusals:
            return candidate
        self._learner.counts.update(f"gate_{reason}" for reason in refusals)
        if self._standing.refused(num_changes) >= self._config.max_refusals:
            self._standing.give_up()
        log.warning("refused", reasons=refusals, evaluation=candidate.measured.evaluation if candidate else None)
        return None

    def prune(self) -> None:
        """Remove the checkpoints that nothing can return to. Raises what reading the plan raises."""
        plan = self._store.plan()
        self._wanted = set(plan.needed if plan else ())
        self._drop()

    def _tidy(self) -> None:
        """Remove what nothing can return to; while the store is away, by the plan that was read last."""
        if not self._leadership.reach.is_open:
            self._drop()
            return
        try:
            self.prune()
        except WireError as error:
            self._learner.counts["tidy_failed"] += 1
            self._note(error)
            log.warning("tidy_failed", reason=str(error))

    def _drop(self) -> None:
        if self._wanted is None:  # no plan was read yet
            return
        kept = self._wanted | {self._learner.version}
        self.stock.keep(kept)
        self._checkpoints.prune(kept, since=self._learner.erased.clean_since)

    def _retry(self, error: Exception) -> None:
        """Try again soon. A failure that comes again is counted each time and said once."""
        reason = type(error).__name__
        self._learner.counts[f"failed_{reason}"] += 1
        self._note(error)
        self._standing.force()
        self._not_before_s = self._clock_s() + 1e-3 * self._config.retry_backoff_ms
        if reason != self._failure:
            log.warning("publish_failed", reason=reason, detail=str(error))
        self._failure = reason

    def _note(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            self._leadership.reach.lost(error)
        elif isinstance(error, BlobCorrupt | NotFound):
            self.stock.suspect(self._tried)
