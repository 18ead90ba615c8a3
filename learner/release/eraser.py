"""Carries out the erasures that are asked for in the store, and says there what became of them.

    digest in the store --> samples out of every memory, sums without them --> next version --> older ones gone --> note

An erasure is in the checkpoint from the moment when it has its effect, and in every manifest made afterwards, by its
number. Requests are never taken back, so reading one again, after a kill or in another store, changes nothing; a store
that was wiped gets them back from the checkpoint.

The first version after an erasure is published without a comparison: what the operator asks for may cost accuracy.
Labels that the gate did not let pass before are set aside first, so that this is no way past it.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.erasure import erase
from learner.release.publisher import WeightPublisher
from learner.state.checkpoint import Checkpoints
from wire.errors import StaleEpoch, StoreUnavailable, WireError
from wire.records import Erasure
from wire.store import Store

INTERVAL_S = 1.0
"""Time between two looks into the store."""

log = structlog.get_logger("learner")


class Eraser:
    """Belongs to the learner's thread. `look` may take seconds, and ends early when another learner leads."""

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
        self._clock_s = clock_s
        self._next_s = 0.0
        self._seen: list[str] = []
        self._told: dict[str, Erasure] = {}

    def look(self) -> None:
        """Carry out what is asked for, at most every INTERVAL_S, and what is due. Raises StaleEpoch."""
        if self._clock_s() >= self._next_s and self._leadership.reach.is_open:
            self._next_s = self._clock_s() + INTERVAL_S
            self._ask()
        if self._learner.erased.is_due:  # the learner went back to what it knew before
            erase(self._learner, keep_alive=self._leadership.check)
            self._publisher.start_over()

    def _ask(self) -> None:
        try:
            for digest in self._new():
                self._erase(digest)
            self._purge()
            self._tell()
        except StaleEpoch:
            raise
        except StoreUnavailable as error:
            self._leadership.reach.lost(error)
        except WireError as error:
            self._learner.counts["erasures_not_told"] += 1
            log.warning("erasures_not_told", reason=str(error))

    def _new(self) -> list[str]:
        """Digests that were not erased yet, of those that came since the last look."""
        listed = self._store.erasures_requested(max(len(self._seen) - 1, 0))
        if self._seen and listed[:1] != self._seen[-1:]:  # another list: the store was wiped
            self._seen = []
            for erasure in self._learner.erased:
                self._store.request_erasure(erasure.digest)
            listed = self._store.erasures_requested(0)
            self._told = {}
        self._seen += listed[1:] if self._seen else listed
        return [digest for digest in listed if digest not in self._learner.erased]

    def _erase(self, digest: str) -> None:
        learner = self._learner
        self._publisher.settle(wait=True)  # what is on its way still knows the subject
        self._publisher.give_up_refused()
        learner.erased.add(digest, time_ms=self._now_ms())
        removed = erase(learner, keep_alive=self._leadership.check)
        learner.counts["erasures"] += 1
        number = len(learner.erased)
        learner.erased.change(Erasure(digest=digest, number=number, time_ms=self._now_ms(), removed=removed))
        self._publisher.start_over()
        log.info("erased", number=number, removed=removed)

    def _purge(self) -> None:
        """Note which erasures no older version and no older checkpoint contradicts any more."""
        waiting = [erasure for erasure in self._learner.erased if erasure.version and not erasure.is_purged]
        if not waiting:
            return
        self._publisher.prune()
        kept = [entry.version for entry in self._checkpoints.entries() if entry.version]
        oldest = min([*self._store.stored_versions(), *kept], default=0)
        for erasure in waiting:
            if erasure.version <= oldest:
                self._learner.erased.change(msgspec.structs.replace(erasure, is_purged=True))

    def _tell(self) -> None:
        for erasure in self._learner.erased:
            if self._told.get(erasure.digest) != erasure:
                self._store.note_erasure(erasure)
                self._told[erasure.digest] = erasure
