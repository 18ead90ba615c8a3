"""Carries out the erasures that are requested in the store, and notes there what became of them.

    digest in the store --> samples out of every memory, sums without them --> next version --> older ones gone --> note

An erasure is in the checkpoint from the moment when it has its effect, and every manifest made afterwards has its
number. Erasing is idempotent and requests are never withdrawn. So reading a request again, after a kill or in another
store, changes nothing, and a store that was wiped gets the requests back from the checkpoint.

The first version after an erasure is published without a comparison: what the operator asks for may cost accuracy.
Labels that the gate refused before are set aside first, so that an erasure is no way past the gate.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from learner.errors import CheckpointFailed
from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.publisher import WeightPublisher
from learner.release.store_turns import StoreTurns
from learner.state.checkpoint import Checkpoints
from wire.records import Erasure
from wire.store import FOREIGN, Store

log = structlog.get_logger("learner")


class Eraser:
    """Belongs to the learner's thread. `carry_out` may take seconds, and ends early when another learner leads.

    `_listed` are the requested digests that were read. `_noted` is what the store was told of each erasure.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        publisher: WeightPublisher,
        *,
        leadership: Leadership,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._leadership = leadership
        self._now_ms = now_ms
        self._turns = StoreTurns(
            leadership, learner.counts, count="erasures_not_told", event="erasures_not_told", clock_s=clock_s
        )
        self._listed: list[str] = []
        self._noted: dict[str, Erasure] = {}

    def carry_out(self) -> None:
        """Reads the requests now and then, and carries out those that are new or due again.

        Raises StaleEpoch.
        """
        self._turns.take(self._carry_out_requests)
        if self._learner.erased.is_due:  # the learner went back to what it knew before
            self._learner.erase(keep_alive=self._leadership.check)
            self._publisher.start_over()

    def _carry_out_requests(self) -> None:
        for digest in self._new_requests():
            self._erase(digest)
        self._mark_purged()
        self._note_changes()

    def _new_requests(self) -> list[str]:
        """Returns the digests that were requested since the last read and are not erased yet."""
        listed = self._store.erasures.requested(max(len(self._listed) - 1, 0))
        if self._listed and listed[:1] != self._listed[-1:]:  # another list: the store was wiped
            self._listed = []
            for erasure in self._learner.erased:
                self._store.erasures.request(erasure.digest)
            listed = self._store.erasures.requested(0)
            self._noted = {}
        self._listed += listed[1:] if self._listed else listed
        return [digest for digest in listed if digest != FOREIGN and digest not in self._learner.erased]

    def _erase(self, digest: str) -> None:
        learner = self._learner
        self._publisher.complete(wait=True)  # the version on its way still knows the subject
        self._publisher.give_up_refused()
        learner.erased.add(digest, time_ms=self._now_ms())
        removed = learner.erase(keep_alive=self._leadership.check)
        learner.progress.break_off()
        learner.counts["erasures"] += 1
        number = len(learner.erased)
        learner.erased.replace(Erasure(digest=digest, number=number, time_ms=self._now_ms(), removed=removed))
        self._publisher.start_over()
        log.info("erased", number=number, removed=removed)

    def _mark_purged(self) -> None:
        """Marks the erasures before which no version and no checkpoint is left, here and at the shared address."""
        waiting = [erasure for erasure in self._learner.erased if erasure.version and not erasure.is_purged]
        if not waiting:
            return
        try:
            self._publisher.writer.prune()
        except CheckpointFailed as error:
            # The disk refuses the checkpoint that is being written: the next turn tries again.
            log.warning("purge_failed", reason=str(error))
            return
        in_checkpoints = [entry.version for entry in self._checkpoints.entries() if entry.version]
        oldest = min([*self._store.versions.stored(), *in_checkpoints], default=0)
        gone = [erasure for erasure in waiting if erasure.version <= oldest]
        if gone and not self._checkpoints.is_older_elsewhere():
            for erasure in gone:
                self._learner.erased.replace(msgspec.structs.replace(erasure, is_purged=True))

    def _note_changes(self) -> None:
        """Writes to the store what has changed of the erasures since it was told last."""
        for erasure in self._learner.erased:
            if self._noted.get(erasure.digest) != erasure:
                self._store.erasures.note(erasure)
                self._noted[erasure.digest] = erasure
