"""When the state of a learner is written down, and which checkpoints and tensors are kept.

    interval over          --export--> checkpoint, beside the learner, synced; then its journal begins
    new encoder, erasure   --export--> checkpoint, before the version is sent
    any other version      --samples since the last one--> journal, before the version is sent
    plan of the rollout    --versions that it may return to--> all older checkpoints, journals and tensors go

A checkpoint holds tens of megabytes, and a version of the head comes several times a second. What such a version knows
are labels, so the checkpoint before it and its journal lead to it (`learner.state.checkpoints`).
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from learner.errors import CheckpointFailed
from learner.failpoints import failpoint
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.attempts import Attempts
from learner.state.checkpoints import MAX_SAMPLES, Checkpoints, Entry
from learner.state.snapshot import Snapshot
from wire.errors import WireError
from wire.records import WeightManifest
from wire.store import Store
from wire.threads import lower_priority

NICENESS = 10
"""Added to the nice value of the thread that writes: no label waits for it."""

TIDY_S = 1.0
"""Shortest time between two looks for files that may go."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A checkpoint that is being written. `entries` are what was learnt since; `num_breaks`: see `LearnerProgress`."""

    snapshot: Snapshot
    offsets: Mapping[str, int]
    num_breaks: int
    is_synced: bool
    entries: list[Entry] = field(default_factory=list)


class CheckpointWriter:
    """Belongs to the learner's thread. `interval_s`: the time between two checkpoints, and between two synced ones.

    Where pruning fails, `attempts` is told; its cache keeps the tensors of the versions that are needed.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        leadership: Leadership,
        attempts: Attempts,
        *,
        interval_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._leadership = leadership
        self._interval_s = interval_s
        self._attempts = attempts
        self._clock_s = clock_s
        self._thread = ThreadPoolExecutor(1, "checkpoint", initializer=lower_priority, initargs=(NICENESS,))
        self._writing: tuple[Draft, Future[Path]] | None = None
        self._written: Draft | None = None
        self._write_at_s = 0.0
        self._sync_at_s = 0.0
        self._tidy_at_s = 0.0
        self._seq_synced = -1
        self._versions_in_plan: set[int] | None = None
        """The versions that the plan which was read last names; None before one was read."""

    @property
    def is_due(self) -> bool:
        """Whether the interval is over and something is not on the disk yet, or no journal leads to what is known."""
        written = self._written
        if self._writing is not None or (written is None and self._clock_s() < self._write_at_s):
            return False
        has_news = written is None or self._learner.offsets != written.offsets or not written.is_synced
        return not self.is_followed_by_journal or (self._clock_s() >= self._write_at_s and has_news)

    @property
    def is_followed_by_journal(self) -> bool:
        """Whether the newest checkpoint of this process and its journal lead to what is known."""
        is_same = self._written is not None and self._written.num_breaks == self._learner.progress.num_breaks
        return is_same and self._checkpoints.journal is not None and not self._is_full

    def write(self, pending: WeightManifest | None) -> None:
        """Writes everything down now; syncs it to the disk now and then, and whenever a command was followed.

        `pending` is the version that this state is about to be published as. Raises StaleEpoch, CheckpointFailed.
        """
        self.complete(wait=True)
        self._leadership.confirm()
        draft = self._draft(pending)
        self._finish(draft, self._checkpoints.write(draft.snapshot, is_synced=draft.is_synced))

    def begin(self) -> None:
        """Begins to write everything down beside the learner. Raises StaleEpoch."""
        self._leadership.confirm()
        draft = self._draft(None)
        write = self._checkpoints.write
        self._writing = draft, self._thread.submit(write, draft.snapshot, is_synced=draft.is_synced)

    def complete(self, *, wait: bool = False) -> bool:
        """Completes the checkpoint under way, if it was written or `wait`; true where none is under way afterwards.

        Raises StaleEpoch, CheckpointFailed.
        """
        if self._writing is None:
            return True
        draft, written = self._writing
        if not (wait or written.done()):
            return False
        self._writing = None
        self._finish(draft, written.result())
        return True

    def write_down(self, manifest: WeightManifest) -> None:
        """Writes down what leads to `manifest`, which is about to be sent: into the journal, or else a checkpoint.

        Raises StaleEpoch, CheckpointFailed.
        """
        if self.is_followed_by_journal:
            self._append(manifest.version, manifest.epoch)
        else:
            self.write(manifest)

    def postpone(self) -> None:
        """Makes the next checkpoint due an interval from now. What the journal cannot hold until then is let go."""
        self._write_at_s = self._clock_s() + self._interval_s
        if self._is_full:
            self._learner.unwritten.clear()
            self._written = None

    def make_due(self) -> None:
        """Makes a synced checkpoint due now: the process ends."""
        self._write_at_s = 0.0
        self._sync_at_s = 0.0

    def remove_old(self) -> None:
        """Removes what nothing can return to, at most every TIDY_S; while the store is away, by the last plan."""
        if self._writing is not None or self._clock_s() < self._tidy_at_s:
            return
        self._tidy_at_s = self._clock_s() + TIDY_S
        if not self._leadership.breaker.allows_requests:
            self._prune_by_last_plan()
            return
        try:
            self.prune()
        except WireError as error:
            self._learner.counts["tidy_failed"] += 1
            self._attempts.react_to(error)
            log.warning("tidy_failed", reason=str(error))

    def prune(self) -> None:
        """Removes the checkpoints that nothing can return to. Raises what `complete` and reading the plan raise."""
        self.complete(wait=True)
        plan = self._store.plans.read()
        self._versions_in_plan = set(plan.needed if plan else ())
        self._prune_by_last_plan()

    @property
    def _is_full(self) -> bool:
        journal = self._checkpoints.journal
        return len(self._learner.unwritten) + (journal.num_samples if journal else 0) > MAX_SAMPLES

    def _draft(self, pending: WeightManifest | None) -> Draft:
        """Exports what is known now; what comes afterwards is for the journal of this draft."""
        learner = self._learner
        now_s = self._clock_s()
        is_synced = now_s >= self._sync_at_s or learner.knowledge.applied_seq != self._seq_synced
        if self.is_followed_by_journal:
            self._append(0, 0)
        else:
            self._written = None
        learner.unwritten.clear()
        self._write_at_s = now_s + self._interval_s
        return Draft(
            snapshot=learner.export(pending, epoch=self._leadership.lease.epoch),
            offsets=learner.offsets,
            num_breaks=learner.progress.num_breaks,
            is_synced=is_synced,
        )

    def _finish(self, draft: Draft, path: Path) -> None:
        """Begins the journal of the checkpoint that was written to `path`."""
        failpoint("after-checkpoint")
        self._written = None
        journal = self._checkpoints.begin_journal(path)
        for entry in draft.entries:
            journal.append(entry)
        self._written = draft
        if draft.is_synced:
            self._sync_at_s = self._write_at_s
            self._seq_synced = draft.snapshot.facts.applied_seq

    def _append(self, version: int, epoch: int) -> None:
        """Appends what is unwritten to the journal, and to the draft that is being written, which lacks it too."""
        entry = Entry(version, epoch, self._learner.unwritten)
        self._learner.unwritten = []
        assert self._checkpoints.journal is not None, "a journal follows"
        try:
            self._checkpoints.journal.append(entry)
        except CheckpointFailed:
            self._written = None  # the journal leads nowhere any more: a checkpoint comes next
            raise
        if self._writing is not None:
            self._writing[0].entries.append(entry)

    def _prune_by_last_plan(self) -> None:
        if self._versions_in_plan is None:
            return
        needed = self._versions_in_plan | {self._learner.version}
        self._attempts.cache.keep(needed)
        self._checkpoints.prune(needed, since=self._learner.commands.clean_since)
