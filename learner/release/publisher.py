"""Publishes what the learner knows as a version that replicas load; a kill at any step leaves nothing half done.

    is_due -> solve, requantize, evaluate -> gate -> blobs -> labels to journal, or checkpoint -> send -> complete
    Flight --script--> served by replicas, or refused --Durability--> on the store's disk, or lost by the store

A thread of its own sends, so that labels do not wait; one publication is under way at most. A kill leaves the last
checkpoint, which reads the labels since then again: up to where the store's version was, if there is a newer one. With
`pending` in the checkpoint, the store has that version, and it is the parent, or it is published again
(`learner.release.parent`). Every failure but a lost lease is logged once and tried again; while the store is known to
be away it is not asked.

A version is served before it is durable: a Redis that syncs once a second would hold it back for up to a second, and
what a power cut takes from it the learner still knows. So a version is provisional until the disk has it. If the store
has lost it by then, the learner publishes what it knows again.
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
from learner.release.attempts import Attempts
from learner.release.candidate import Candidate, CandidateMaker, ReferenceFinder, limits_of, manifest_of
from learner.release.checkpoint_writer import CheckpointWriter
from learner.release.parent import ParentVersion
from learner.release.tensors import TensorCache, put_blobs
from learner.rounds.worker import beside
from learner.state.checkpoints import Checkpoints
from learner.stopwatch import CLOCKS, Clocks, Stopwatch
from model.errors import NonFinite
from wire.errors import StaleEpoch, WireError
from wire.records import WeightManifest
from wire.store import Lease, Store, Versions

log = structlog.get_logger("learner")


class WeightPublisher:
    """Publishes what `learner` knows, at most once per interval. Belongs to the learner's thread.

    `parent` knows whether there is news, `attempts` when to try, `writer` writes down. `refusals`: why the gate refused
    the last candidate; empty when it passed. `last_ms`: how long each step of the last publication took.
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
        self._maker = CandidateMaker(config, beside(learner.executor, "solve", niceness=0, threads=config.threads))
        self._reference = ReferenceFinder(store, self._maker)
        self.parent = ParentVersion(learner, store, checkpoints, self._maker, max_refusals=config.max_refusals)
        self.cache = TensorCache()
        self.attempts = Attempts(learner.counts, leadership, self.cache, config=config, clock_s=clocks.elapsed_s)
        self.writer = CheckpointWriter(
            learner,
            store,
            checkpoints,
            leadership,
            self.attempts,
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
        """The last candidate that this process published."""
        return self._maker.parent

    def recover(self, pending: WeightManifest | None, ends: Mapping[str, int]) -> None:
        """Finds the parent of a restored learner, as `ParentVersion.recover` does, and its tensors."""
        self.parent.recover(pending, ends)
        if self.last is not None:
            self.cache.add(self._learner.version, self.last.tensors)
        self.durability.expect(self._learner.version)

    def checkpoint(self) -> None:
        """Writes a checkpoint now. After the first one of a leader, no earlier leader can bring in what it knew."""
        try:
            self.writer.write(None)
            self.writer.remove_old()
        except CheckpointFailed as error:
            self._retry(error)  # nothing is published without a checkpoint either

    def start_over(self) -> None:
        """Makes a publication due that is compared with nothing: somebody was erased."""
        self._maker.forget()
        self._reference.forget()
        self.parent.make_due()

    def give_up_refused(self) -> None:
        """Sets aside what the gate refused, if it refused something."""
        if self._learner.progress.num_refused:
            self.parent.give_up()

    def refill_cache(self, stored: WeightManifest) -> None:
        """Makes the tensors of a version again from its checkpoint, unless they are in the cache or that is gone."""
        candidate = None if self.cache.has(stored.version) else self.parent.remake(stored)
        if candidate is not None:
            self.cache.add(stored.version, candidate.tensors)

    def is_due(self) -> bool:
        """Whether there is something to publish, the interval is over, and nothing has to be read before.

        A lease that was taken again is a reason, too: the store may have forgotten the weights with it.
        """
        has_reason = self.parent.may_publish or self._leadership.lease is not self._lease
        return has_reason and self._sender.flight is None and self.attempts.may_begin

    def turn(self) -> None:
        """Does what is due after a poll: completes a publication, begins one, measures, writes a checkpoint.

        Raises StaleEpoch where another learner leads.
        """
        self.complete()  # what was sent is the parent of the next version
        if self.is_due():
            self.publish()  # solve, requantize, measure; gate; blobs, journal or checkpoint, send
        self.review()  # temperature and precisions, a unit
        self.checkpoint_if_due()

    def publish(self) -> None:
        """Publishes what is known, unless the gate refuses it. Raises StaleEpoch where another learner leads."""
        self.attempts.begin()
        begun_s = self._clocks.processor_s()
        try:
            if self._leadership.lease is not self._lease:
                self._lease = self._leadership.lease
                self.checkpoint()
            current = self._store.versions.current()
            if current != self._learner.version:
                self.parent.follow(current)
            elif self.parent.may_publish:
                self._publish_candidate()
        except StaleEpoch:
            raise
        except (WireError, CheckpointFailed) as error:
            self._retry(error)
        self.attempts.rest(self._clocks.processor_s() - begun_s)

    def complete(self, *, wait: bool = False) -> None:
        """Completes the publication under way, if it was sent or `wait`. Raises StaleEpoch where another leads."""
        flight = self._sender.flight
        if flight is None:
            self._watch_disk()
            return
        try:
            if not self._sender.has_landed(wait=wait):
                return
        except WireError as error:
            if isinstance(error, StaleEpoch):
                self._leadership.on_refusal(flight.lease, error)
            self._retry(error)
            return
        self.attempts.succeed()
        self.parent.adopt(flight.manifest, flight.num_effects)
        self.durability.expect(flight.manifest.version)
        self._maker.adopt(flight.candidate, self._learner)
        failpoint("after-mark")
        self.writer.remove_old()
        self.last_ms = flight.stopwatch.ms | {"durable": self.durability.ms}
        log.info("published", version=flight.manifest.version, ms=flight.stopwatch.total_ms)

    def review(self) -> None:
        """Does a unit of a review, if one is due: what is measured beside publications."""
        self._maker.review(self._learner.knowledge, self._clocks.elapsed_s())

    def checkpoint_if_due(self, *, wait: bool = False) -> None:
        """Writes a checkpoint now and then, beside the learner unless `wait`.

        So a restart does not read for long, and a version of the head needs no checkpoint of its own.
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
        """Publishes what is new, if the store is there, and writes everything down: the process ends."""
        self.complete(wait=True)
        if self.parent.has_news and self._leadership.breaker.allows_requests:
            self.publish()
            self.complete(wait=True)
        self._watch_disk(wait=True)  # what is lost the next process publishes
        self.writer.make_due()
        self.checkpoint_if_due(wait=True)

    def _publish_candidate(self) -> None:
        """Makes a candidate and asks the gate; begins to publish it, or notes why it is refused."""
        stopwatch = Stopwatch()
        try:
            known = self._learner.knowledge
            self._maker.recent.refer_to(self._reference.find(known))
            self._learner.schedule.is_settled = self._reference.is_settled
            candidate = self._maker.make(known, stopwatch, self._learner.offsets, anew=False)
            limits = limits_of(candidate, self.last, known)
            self.refusals = tuple(gate.refusals(candidate.measured, candidate.precisions[0], limits))
        except NonFinite as error:
            log.warning(error.reason, detail=str(error))
            self.refusals = (error.reason,)
        failpoint("after-evaluate")
        if self.refusals:
            log.warning("refused", reasons=self.refusals)
            self.parent.count_refusal(self.refusals)
        else:
            self._send(candidate, stopwatch)

    def _send(self, candidate: Candidate, stopwatch: Stopwatch) -> None:
        """Writes the blobs, and the journal or a checkpoint; begins to send the manifest."""
        version = self.parent.next_number()
        lease = self._leadership.lease
        manifest = manifest_of(candidate, self._learner, version=version, epoch=lease.epoch, time_ms=self._now_ms())
        failpoint("after-requantize")
        self.cache.add(version, candidate.tensors)
        self.attempts.tensors = candidate.tensors
        put_blobs(candidate.tensors.values(), self._store.blobs)
        stopwatch.end("blobs")
        self.parent.announce(manifest)
        self.writer.write_down(manifest)
        failpoint("after-journal")
        stopwatch.end("checkpoint")
        known = self._learner.progress.num_effects
        flight = Flight(manifest=manifest, candidate=candidate, num_effects=known, stopwatch=stopwatch, lease=lease)
        self._sender.send(flight)

    def _watch_disk(self, *, wait: bool = False) -> None:
        if self._leadership.breaker.allows_requests and self.durability.is_lost(wait=wait):
            self.parent.make_due()

    def _retry(self, error: Exception) -> None:
        """Makes a publication due after a pause."""
        self.attempts.fail(error)
        self.parent.make_due()


RETRY_S = 1.0
"""Pause before a disk that failed is asked again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A publication that waits for the store. `num_effects`: the effects on knowledge that its version has.

    The last lap of `stopwatch` ends when the store has announced the version, not when the learner takes note of that.
    """

    manifest: WeightManifest
    candidate: Candidate
    num_effects: int
    stopwatch: Stopwatch
    lease: Lease


class Sender:
    """Sends manifests, at most one at a time."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")
        self._sent: Future[None] = Future()
        self.flight: Flight | None = None
        """The publication under way."""

    def send(self, flight: Flight) -> None:
        """Begins to send. Nothing may be under way."""
        self.flight = flight
        self._sent = self._thread.submit(self._publish, flight)

    def has_landed(self, *, wait: bool) -> bool:
        """Whether the publication under way has ended, which `wait` waits for. Then nothing is under way any more.

        Raises what sending has raised.
        """
        if not (wait or self._sent.done()):
            return False
        try:
            self._sent.result()
        finally:
            self.flight = None
        return True

    def _publish(self, flight: Flight) -> None:
        self._versions.publish(flight.manifest, flight.lease)
        flight.stopwatch.end("publish")
        failpoint("after-publish")


class Durability:
    """Knows which version is on the store's disk. Belongs to the learner's thread.

    `version`: the newest that is known to be there (0: none). `ms`: how long after it was served that became known.
    """

    def __init__(self, versions: Versions, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._versions = versions
        self._clock_s = clock_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="durable")
        self._asked: Future[bool] | None = None
        self._asked_for = (0, 0.0)
        self._newest = (0, 0.0)
        self._not_before_s = 0.0
        self._is_failing = False
        self.version = 0
        self.ms = 0.0

    def expect(self, version: int) -> None:
        """Takes note that `version` is served since now. A version that the disk did not have before is not lost."""
        self._newest = (version, self._clock_s())

    def is_lost(self, *, wait: bool = False) -> bool:
        """Whether the store has lost the newest version; `wait` waits until that is known. Says so once.

        Asks for the newest version as soon as the answer about an earlier one is there.
        """
        is_lost = self._read(wait=wait)
        if self._asked is None and self._newest[0] > self.version and self._clock_s() >= self._not_before_s:
            self._asked_for = self._newest
            self._asked = self._thread.submit(self._is_kept, self._newest[0])
            is_lost = is_lost or (wait and self._read(wait=True))
        return is_lost

    def _read(self, *, wait: bool) -> bool:
        """Reads the answer that is there, or that `wait` waits for; true where it is that the version is lost."""
        if self._asked is None or not (wait or self._asked.done()):
            return False
        asked, self._asked = self._asked, None
        version, since_s = self._asked_for
        try:
            is_kept = asked.result()
        except WireError as error:
            self._not_before_s = self._clock_s() + RETRY_S
            if not self._is_failing:
                log.warning("not_durable_yet", version=version, reason=str(error))
            self._is_failing = True
            return False
        self._is_failing = False
        if not is_kept:
            is_newest = version == self._newest[0]  # otherwise another one was published in its place
            if is_newest:
                self._newest = (0, 0.0)
                log.warning("version_lost", version=version)
            return is_newest
        self.version = version
        self.ms = round(1e3 * (self._clock_s() - since_s), 1)
        return False

    def _is_kept(self, version: int) -> bool:
        """Waits for the disk. Whether the store still knows `version`: it may have been started again meanwhile."""
        self._versions.sync()
        return self._versions.next_number() > version
