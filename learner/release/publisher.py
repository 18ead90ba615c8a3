"""Publishes the learner's knowledge as a model version, which replicas load. A kill at any step does no harm.

    is_due -> solve, requantize, evaluate -> gate -> blobs -> journal entry, or checkpoint -> send -> complete
    PendingPublish --script in the store--> served by replicas, or refused
    served version --Durability--> on the store's disk, or lost by the store

A separate thread sends the version, so that labels do not wait. At most one publication is pending. After a kill, the
next learner restores the last checkpoint, and reads the labels since then again, at least up to the offsets of the
store's newest version. If the checkpoint has a `pending` manifest, it was written just before that version was sent. If
the store has this version, it becomes the parent. Otherwise it is published again (`learner.release.parent`). Every
failure is logged once and retried, except the loss of the lease. While the circuit breaker is open, the publisher sends
no requests to the store.

A version is served before it is durable. A Redis that syncs once a second would delay each version by up to a second. A
power cut may delete the newest version from Redis, but the learner has everything that is needed to make it again. So
if the store loses a version before it is on disk, the learner publishes its knowledge again.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from learner.config import LearnerConfig
from learner.errors import CheckpointFailed
from learner.failpoints import failpoint
from learner.leadership import Leadership
from learner.learner import Learner
from learner.quality import gate
from learner.release.candidate import Candidate, CandidateMaker, ReferenceFinder, build_manifest, gate_limits
from learner.release.checkpoint_writer import CheckpointWriter
from learner.release.parent import ParentVersion
from learner.release.publish_backoff import PublishBackoff
from learner.release.tensors import TensorCache, put_blobs
from learner.rounds.worker import side_executor
from learner.state.checkpoints import Checkpoints
from learner.stopwatch import CLOCKS, Clocks, Stopwatch
from model.errors import NonFinite
from wire.errors import StaleEpoch, WireError
from wire.records import WeightManifest
from wire.store import Lease, Store, Versions

log = structlog.get_logger("learner")


class WeightPublisher:
    """Publishes the knowledge of `learner`, at most once per interval. Belongs to the learner's thread.

    - `parent`: decides whether there is something to publish.
    - `backoff`: decides when the next attempt may begin.
    - `writer`: writes checkpoints and the journal.
    - `cache`: the tensors of published versions.
    - `refusals`: the gate's reasons against the last candidate; empty if it passed.
    - `last_ms`: the duration of each step of the last publication, in milliseconds.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        leadership: Leadership,
        *,
        config: LearnerConfig,
        now_ms: Callable[[], int],
        clocks: Clocks = CLOCKS,
    ) -> None:
        self._learner = learner
        self._store = store
        self._leadership = leadership
        self._now_ms = now_ms
        self._clocks = clocks
        solver_thread = side_executor(learner.executor, "solve", niceness=0, threads=config.threads)
        self._maker = CandidateMaker(config, solver_thread)
        self._reference = ReferenceFinder(store, self._maker)
        self.parent = ParentVersion(learner, store, checkpoints, self._maker, max_refusals=config.max_refusals)
        self.cache = TensorCache()
        self.backoff = PublishBackoff(learner.counts, leadership, self.cache, config=config, clock_s=clocks.elapsed_s)
        self.writer = CheckpointWriter(
            learner,
            store,
            checkpoints,
            leadership,
            self.backoff,
            interval_s=config.checkpoint_interval_s,
            clock_s=clocks.elapsed_s,
        )
        self._sender = Sender(store.versions)
        self.durability = Durability(store.versions, clock_s=clocks.elapsed_s)
        self._lease = leadership.lease
        self.refusals: tuple[str, ...] = ()
        self.last_ms: dict[str, float] = {}

    @property
    def last(self) -> Candidate | None:
        """The last candidate that this process published, which is the parent of the next one."""
        return self._maker.parent

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Finds the parent version of a restored learner, and caches its tensors (see `ParentVersion.recover`)."""
        self.parent.recover(pending, ends)
        if self.last is not None:
            self.cache.add(self._learner.version, self.last.tensors)
        self.durability.expect(self._learner.version)

    def checkpoint(self) -> None:
        """Writes a checkpoint now. A new leader's first checkpoint replaces the checkpoints of earlier leaders."""
        try:
            self.writer.write(None)
            self.writer.remove_old()
        except CheckpointFailed as error:
            # Without a checkpoint nothing can be published, so both are tried again after a pause.
            self._retry(error)

    def start_over(self) -> None:
        """Makes a publication due, because of an erasure. Its candidate is not compared with any other version."""
        self._maker.forget()
        self._reference.forget()
        self.parent.make_due()

    def give_up_refused(self) -> None:
        """Sets aside the labels since the published version, if the gate has refused the last candidate."""
        if self._learner.progress.num_refused:
            self.parent.give_up()

    def refill_cache(self, stored: WeightManifest) -> None:
        """Makes the tensors of a version again from its checkpoint, and caches them, unless they are cached."""
        candidate = None if self.cache.has(stored.version) else self.parent.remake(stored)
        if candidate is not None:
            self.cache.add(stored.version, candidate.tensors)

    def is_due(self) -> bool:
        """Returns whether a publication should begin: something can be published, none is pending, the pause is over.

        A lease that was acquired again is a reason to publish, too: a store that has lost the lease may have lost
        weights.
        """
        has_reason = self.parent.may_publish or self._leadership.lease is not self._lease
        return has_reason and self._sender.pending_publish is None and self.backoff.may_begin

    def poll(self) -> None:
        """Runs the steps that are due: completes a publication, begins one, reviews, writes a checkpoint.

        Raises StaleEpoch if another learner leads.
        """
        # A version that was sent becomes the parent of the next one.
        self.complete()
        if self.is_due():
            # Solve, requantize, evaluate; gate; blobs; journal or checkpoint; send.
            self.publish()
        # A unit of calibrating the temperature, or of measuring the precisions.
        self.review()
        self.checkpoint_if_due()

    def publish(self) -> None:
        """Publishes the learner's knowledge, unless the gate refuses it. Raises StaleEpoch if another learner leads."""
        self.backoff.begin()
        begun_s = self._clocks.processor_s()
        try:
            # The store has forgotten the lease, and maybe versions. First the checkpoint must have the new epoch.
            if self._leadership.lease is not self._lease:
                self._lease = self._leadership.lease
                self.checkpoint()
            current = self._store.versions.current()
            # The pointer differs after a rollback, a wiped store or a lost reply. Follow it before publishing anything.
            if current != self._learner.version:
                self.parent.follow(current)
            elif self.parent.may_publish:
                self._publish_candidate()
        except StaleEpoch:
            raise
        except (WireError, CheckpointFailed) as error:
            self._retry(error)
        self.backoff.rest(self._clocks.processor_s() - begun_s)

    def complete(self, *, wait: bool = False) -> None:
        """Completes the pending publication, if the store has replied; `wait` waits for the reply.

        The published version becomes the parent. Raises StaleEpoch if another learner leads.
        """
        pending = self._sender.pending_publish
        if pending is None:
            self._check_durability()
            return
        try:
            if not self._sender.is_done(wait=wait):
                return
        except WireError as error:
            if isinstance(error, StaleEpoch):
                self._leadership.on_refusal(pending.lease, error)
            self._retry(error)
            return
        self.backoff.succeed()
        self.parent.adopt(pending.manifest, pending.num_effects)
        self.durability.expect(pending.manifest.version)
        self._maker.adopt(pending.candidate, self._learner)
        failpoint("after-mark")
        self.writer.remove_old()
        self.last_ms = pending.stopwatch.ms | {"durable": self.durability.ms}
        log.info("published", version=pending.manifest.version, ms=pending.stopwatch.total_ms)

    def review(self) -> None:
        """Runs a unit of the review of the published version, if one is due (`learner.quality.calibration`)."""
        self._maker.review(self._learner.knowledge, self._clocks.elapsed_s())

    def checkpoint_if_due(self, *, wait: bool = False) -> None:
        """Writes a checkpoint if one is due, in the writer's thread; `wait` waits for it.

        Regular checkpoints bound the labels that a restart reads again. The versions between two of them need only an
        entry in the journal.
        """
        try:
            if self.writer.complete(wait=wait) and self.writer.is_due:
                self.writer.begin()
                self.writer.complete(wait=wait)
            self.writer.remove_old()
        except CheckpointFailed as error:
            self._retry(error)
            self.writer.postpone()

    def finish(self) -> None:
        """Publishes new knowledge if the store is reachable, and writes a synced checkpoint: the process ends."""
        self.complete(wait=True)
        if self.parent.has_news and self._leadership.breaker.allows_requests:
            self.publish()
            self.complete(wait=True)
        # If the store has lost the last version, the next process publishes it again.
        self._check_durability(wait=True)
        self.writer.make_due()
        self.checkpoint_if_due(wait=True)

    def _publish_candidate(self) -> None:
        """Makes a candidate. If the gate finds no reason against it, begins to publish it."""
        stopwatch = Stopwatch()
        try:
            known = self._learner.knowledge
            self._maker.recent.refer_to(self._reference.find(known))
            self._learner.schedule.is_settled = self._reference.is_settled
            candidate = self._maker.make(known, stopwatch, self._learner.offsets, anew=False)
            limits = gate_limits(candidate, self.last, known)
            self.refusals = tuple(gate.refusals(candidate.measured, candidate.precisions[0], limits))
        except NonFinite as error:
            log.warning(error.reason, detail=str(error))
            self.refusals = (error.reason,)
        failpoint("after-evaluate")
        if self.refusals:
            log.warning("candidate_refused", reasons=self.refusals)
            self.parent.count_refusal(self.refusals)
        else:
            self._send(candidate, stopwatch)

    def _send(self, candidate: Candidate, stopwatch: Stopwatch) -> None:
        """Writes the blobs, then a journal entry or a checkpoint, and then begins to send the manifest."""
        version = self.parent.next_number()
        lease = self._leadership.lease
        manifest = build_manifest(candidate, self._learner, version=version, epoch=lease.epoch, time_ms=self._now_ms())
        failpoint("after-requantize")
        self.cache.add(version, candidate.tensors)
        self.backoff.tensors = candidate.tensors
        put_blobs(candidate.tensors.values(), self._store.blobs)
        stopwatch.end("blobs")
        # The state of a version is written before the version is sent, so the learner can go back to every version.
        self.parent.announce(manifest)
        self.writer.write_version(manifest)
        failpoint("after-journal")
        stopwatch.end("checkpoint")
        pending = PendingPublish(
            manifest=manifest,
            candidate=candidate,
            num_effects=self._learner.progress.num_effects,
            stopwatch=stopwatch,
            lease=lease,
        )
        self._sender.send(pending)

    def _check_durability(self, *, wait: bool = False) -> None:
        """Makes a publication due if the store has lost the last version."""
        if self._leadership.breaker.allows_requests and self.durability.is_lost(wait=wait):
            self.parent.make_due()

    def _retry(self, error: Exception) -> None:
        """Counts and logs a failure, and makes a publication due after a pause."""
        self.backoff.fail(error)
        self.parent.make_due()


RETRY_S = 1.0
"""The pause after a failed check of whether a version is durable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingPublish:
    """A publication that was sent and waits for the store's reply.

    `num_effects` is the number of changes of the knowledge that the version contains (`LearnerProgress`). The last lap
    of `stopwatch` ends when the store has announced the version, even if the learner's thread reads the reply later.
    """

    manifest: WeightManifest
    candidate: Candidate
    num_effects: int
    stopwatch: Stopwatch
    lease: Lease


class Sender:
    """Sends manifests in its own thread, one at a time."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._sent: Future[None] = Future()
        self.pending_publish: PendingPublish | None = None
        """The publication that was sent and not completed."""

    def send(self, pending_publish: PendingPublish) -> None:
        """Begins to send. No other publication may be pending."""
        self.pending_publish = pending_publish
        self._sent = self._thread.submit(self._publish, pending_publish)

    def is_done(self, *, wait: bool) -> bool:
        """Returns whether the store has replied; `wait` waits for the reply. Afterwards no publication is pending.

        Raises the error of the request, if it failed.
        """
        if not (wait or self._sent.done()):
            return False
        try:
            self._sent.result()
        finally:
            self.pending_publish = None
        return True

    def _publish(self, pending_publish: PendingPublish) -> None:
        self._versions.publish(pending_publish.manifest, pending_publish.lease)
        pending_publish.stopwatch.end("publish")
        failpoint("after-publish")


class Durability:
    """Finds out whether published versions are on the store's disk. Belongs to the learner's thread.

    The checks run in another thread. `version` is the newest version that is known to be durable; 0 for none. `ms` is
    the time from its publication until this was known.
    """

    def __init__(self, versions: Versions, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._versions = versions
        self._clock_s = clock_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="durable")
        # The check that is running.
        self._check: Future[bool] | None = None
        # The version that is being checked, and the newest version, each with the time since which it is served.
        self._checked = (0, 0.0)
        self._newest = (0, 0.0)
        self._not_before_s = 0.0
        self._is_failing = False
        self.version = 0
        self.ms = 0.0

    def expect(self, version: int) -> None:
        """Records that `version` has just been published. The loss of an earlier version is no longer reported."""
        self._newest = (version, self._clock_s())

    def is_lost(self, *, wait: bool = False) -> bool:
        """Returns whether the store has lost the newest version; True once for each loss. `wait` waits for the result.

        Begins to check the newest version as soon as the check of an earlier version has ended.
        """
        is_lost = self._read_check(wait=wait)
        if self._check is None and self._newest[0] > self.version and self._clock_s() >= self._not_before_s:
            self._checked = self._newest
            self._check = self._thread.submit(self._is_kept, self._newest[0])
            if wait and not is_lost:
                is_lost = self._read_check(wait=True)
        return is_lost

    def _read_check(self, *, wait: bool) -> bool:
        """Reads the result of the running check, if it has ended; returns whether the version is lost. `wait` waits."""
        check = self._check
        if check is None or not (wait or check.done()):
            return False
        self._check = None
        version, since_s = self._checked
        try:
            is_kept = check.result()
        except WireError as error:
            self._not_before_s = self._clock_s() + RETRY_S
            if not self._is_failing:
                log.warning("version_not_durable_yet", version=version, reason=str(error))
            self._is_failing = True
            return False
        self._is_failing = False
        if not is_kept:
            # If the version is not the newest one, a newer version replaces it, so nothing is missing.
            is_newest = version == self._newest[0]
            if is_newest:
                self._newest = (0, 0.0)
                log.warning("version_lost", version=version)
            return is_newest
        self.version = version
        self.ms = round(1e3 * (self._clock_s() - since_s), 1)
        return False

    def _is_kept(self, version: int) -> bool:
        """Waits until the store has synced to disk; returns whether it still has `version` (it may have restarted)."""
        self._versions.sync()
        return self._versions.next_number() > version
