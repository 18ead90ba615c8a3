"""Writes the learner's checkpoints and journal, and prunes old checkpoints and tensors.

    at intervals           --export--> checkpoint, synced, in a thread; then its journal begins
    new encoder, erasure   --export--> checkpoint, before the version is sent
    any other version      --samples since the last entry--> journal, before the version is sent
    rollout plan           --versions to which it may return--> all older checkpoints, journals and tensors are removed

A checkpoint has tens of megabytes, and there are several new versions of the head each second. Such a version differs
from the previous one only by labels. So it can be restored from the last checkpoint and its journal, which contains
these labels (`learner.state.checkpoints`).
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
from learner.release.publish_backoff import PublishBackoff
from learner.state.checkpoints import MAX_SAMPLES, Checkpoints, Entry
from learner.state.snapshot import Snapshot
from wire.errors import WireError
from wire.records import WeightManifest
from wire.store import Store
from wire.threads import lower_priority

NICENESS = 10
"""Added to the nice value of the writing thread, since no label waits for it."""

PRUNE_INTERVAL_S = 1.0
"""The shortest time between two prunings."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A checkpoint that is being written, or was written last.

    - `num_breaks`: see `LearnerProgress`.
    - `entries`: the journal entries since the snapshot was taken. The journal of the checkpoint begins with them.
    """

    snapshot: Snapshot
    offsets: Mapping[str, int]
    num_breaks: int
    is_synced: bool
    entries: list[Entry] = field(default_factory=list)


class CheckpointWriter:
    """Decides when to write a checkpoint, and writes it. Belongs to the learner's thread.

    - `interval_s`: the time between two checkpoints, and between two checkpoints that are synced to the disk.
    - `backoff`: reacts to an unreachable store. Pruning removes the tensors of unneeded versions from its cache.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        leadership: Leadership,
        backoff: PublishBackoff,
        *,
        interval_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._leadership = leadership
        self._interval_s = interval_s
        self._backoff = backoff
        self._clock_s = clock_s
        self._thread = ThreadPoolExecutor(1, "checkpoint", initializer=lower_priority, initargs=(NICENESS,))
        self._writing: tuple[Draft, Future[Path]] | None = None
        self._written: Draft | None = None
        self._write_at_s = 0.0
        self._sync_at_s = 0.0
        self._prune_at_s = 0.0
        self._seq_synced = -1
        self._versions_in_plan: set[int] | None = None
        """The versions that the last rollout plan names; None if no plan was read yet."""

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint is due: the interval is over and the state has changed, or the journal has ended."""
        written = self._written
        if self._writing is not None or (written is None and self._clock_s() < self._write_at_s):
            return False
        has_news = written is None or self._learner.offsets != written.offsets or not written.is_synced
        return not self.is_journal_open or (self._clock_s() >= self._write_at_s and has_news)

    @property
    def is_journal_open(self) -> bool:
        """Whether the samples that were learnt since the last entry can be written into the current journal."""
        is_same = self._written is not None and self._written.num_breaks == self._learner.progress.num_breaks
        return is_same and self._checkpoints.journal is not None and not self._is_full

    def write(self, pending: WeightManifest | None) -> None:
        """Writes a checkpoint now. It is synced to the disk once per interval, and after each executed command.

        `pending` is the manifest with which this state is about to be published, if any. Raises StaleEpoch,
        CheckpointFailed.
        """
        self.complete(wait=True)
        self._leadership.confirm()
        draft = self._draft(pending)
        self._finish(draft, self._checkpoints.write(draft.snapshot, is_synced=draft.is_synced))

    def begin(self) -> None:
        """Begins to write a checkpoint in the writer's thread. Raises StaleEpoch."""
        self._leadership.confirm()
        draft = self._draft(None)
        written = self._thread.submit(self._checkpoints.write, draft.snapshot, is_synced=draft.is_synced)
        self._writing = (draft, written)

    def complete(self, *, wait: bool = False) -> bool:
        """Begins the journal of the checkpoint under way, once it is written; `wait` waits for that.

        Returns whether no checkpoint is under way any more. Raises StaleEpoch, CheckpointFailed.
        """
        if self._writing is None:
            return True
        draft, written = self._writing
        if not (wait or written.done()):
            return False
        self._writing = None
        self._finish(draft, written.result())
        return True

    def write_version(self, manifest: WeightManifest) -> None:
        """Writes the state of a version that is about to be sent: as a journal entry if possible, or as a checkpoint.

        Raises StaleEpoch, CheckpointFailed.
        """
        if self.is_journal_open:
            self._append(manifest.version, manifest.epoch)
        else:
            self.write(manifest)

    def postpone(self) -> None:
        """Makes the next checkpoint due an interval from now, after a checkpoint has failed.

        If the journal is full, the unwritten samples are dropped from memory, since only a checkpoint can save them.
        """
        self._write_at_s = self._clock_s() + self._interval_s
        if self._is_full:
            self._learner.unwritten.clear()
            self._written = None

    def make_due(self) -> None:
        """Makes a synced checkpoint due now, because the process ends."""
        self._write_at_s = 0.0
        self._sync_at_s = 0.0

    def remove_old(self) -> None:
        """Prunes checkpoints and tensors, at most once per PRUNE_INTERVAL_S.

        While the store is away, the last known plan says which versions are needed.
        """
        if self._writing is not None or self._clock_s() < self._prune_at_s:
            return
        self._prune_at_s = self._clock_s() + PRUNE_INTERVAL_S
        if not self._leadership.breaker.allows_requests:
            self._prune_by_last_plan()
            return
        try:
            self.prune()
        except WireError as error:
            self._learner.counts["tidy_failed"] += 1
            self._backoff.react_to(error)
            log.warning("tidy_failed", reason=str(error))

    def prune(self) -> None:
        """Reads the rollout plan, and removes the checkpoints to which neither the plan nor the learner can return.

        Raises StaleEpoch, CheckpointFailed, and WireError if the plan cannot be read.
        """
        self.complete(wait=True)
        plan = self._store.plans.read()
        self._versions_in_plan = set(plan.needed if plan else ())
        self._prune_by_last_plan()

    @property
    def _is_full(self) -> bool:
        """Whether the unwritten samples would make the journal longer than MAX_SAMPLES."""
        journal = self._checkpoints.journal
        return len(self._learner.unwritten) + (journal.num_samples if journal else 0) > MAX_SAMPLES

    def _draft(self, pending: WeightManifest | None) -> Draft:
        """Exports the learner's state for a checkpoint. Samples that are learnt later go into its journal."""
        learner = self._learner
        now_s = self._clock_s()
        is_synced = now_s >= self._sync_at_s or learner.knowledge.applied_seq != self._seq_synced
        # Until the draft is written, the old checkpoint and its journal must contain the current state.
        if self.is_journal_open:
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
        # If the journal cannot be begun or filled, the next state is written as a checkpoint.
        self._written = None
        journal = self._checkpoints.begin_journal(path)
        for entry in draft.entries:
            journal.append(entry)
        self._written = draft
        if draft.is_synced:
            self._sync_at_s = self._write_at_s
            self._seq_synced = draft.snapshot.facts.applied_seq

    def _append(self, version: int, epoch: int) -> None:
        """Appends the unwritten samples to the journal. `version` contains them; 0 if no version contains them yet."""
        entry = Entry(version, epoch, self._learner.unwritten)
        self._learner.unwritten = []
        assert self._checkpoints.journal is not None, "the journal is open"
        try:
            self._checkpoints.journal.append(entry)
        except CheckpointFailed:
            # The journal now lacks samples, so the next state is written as a checkpoint.
            self._written = None
            raise
        # The draft was exported before these samples, so its journal needs them, too.
        if self._writing is not None:
            self._writing[0].entries.append(entry)

    def _prune_by_last_plan(self) -> None:
        """Removes checkpoints and tensors that neither the learner nor the last plan needs. Needs a plan."""
        if self._versions_in_plan is None:
            return
        needed = self._versions_in_plan | {self._learner.version}
        self._backoff.cache.keep(needed)
        self._checkpoints.prune(needed, since=self._learner.commands.clean_since)
