"""When the state of a learner is written down, and which checkpoints and tensors are kept.

interval over, or a version is about to be published --export--> checkpoint, synced now and then and after an erasure
plan of the rollout --> versions that it may return to --> the checkpoints and tensors of all older ones go
"""

import time
from collections.abc import Callable

import structlog

from learner.leadership import Leadership
from learner.learner import Learner
from learner.release.tensors import TensorCache
from learner.state.checkpoint import Checkpoints
from wire.errors import WireError
from wire.records import WeightManifest
from wire.store import Store

log = structlog.get_logger("learner")


class CheckpointWriter:
    """Belongs to the learner's thread. `interval_s`: the time between two checkpoints, and between two synced ones.

    `on_failure` is told what went wrong where pruning fails.
    """

    def __init__(
        self,
        learner: Learner,
        store: Store,
        checkpoints: Checkpoints,
        leadership: Leadership,
        cache: TensorCache,
        *,
        interval_s: float,
        on_failure: Callable[[Exception], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._store = store
        self._checkpoints = checkpoints
        self._leadership = leadership
        self._cache = cache
        self._interval_s = interval_s
        self._on_failure = on_failure
        self._clock_s = clock_s
        self._written = learner.offsets
        self._write_at_s = 0.0
        self._sync_at_s = 0.0
        self._is_synced = False
        self._num_erasures_synced = -1
        self._versions_in_plan: set[int] | None = None
        """The versions that the plan which was read last names; None before one was read."""

    @property
    def is_due(self) -> bool:
        """Whether the interval is over and something is not on the disk yet."""
        has_news = self._learner.offsets != self._written or not self._is_synced
        return self._clock_s() >= self._write_at_s and has_news

    def write(self, pending: WeightManifest | None) -> None:
        """Writes everything down; syncs it to the disk now and then, and whenever somebody was erased.

        `pending` is the version that this state is about to be published as. Raises StaleEpoch, CheckpointFailed.
        """
        learner = self._learner
        now_s = self._clock_s()
        is_synced = now_s >= self._sync_at_s or len(learner.erased) != self._num_erasures_synced
        self._leadership.confirm()
        self._checkpoints.write(learner.export(pending, epoch=self._leadership.lease.epoch), is_synced=is_synced)
        self._written = learner.offsets
        self._is_synced = is_synced
        self._write_at_s = now_s + self._interval_s
        if is_synced:
            self._sync_at_s = self._write_at_s
            self._num_erasures_synced = len(learner.erased)

    def postpone(self) -> None:
        """Makes the next checkpoint due an interval from now."""
        self._write_at_s = self._clock_s() + self._interval_s

    def hasten(self) -> None:
        """Makes a synced checkpoint due now: the process ends."""
        self._write_at_s = 0.0
        self._sync_at_s = 0.0

    def tidy(self) -> None:
        """Removes what nothing can return to; while the store is away, by the plan that was read last."""
        if not self._leadership.breaker.allows_requests:
            self._prune_by_last_plan()
            return
        try:
            self.prune()
        except WireError as error:
            self._learner.counts["tidy_failed"] += 1
            self._on_failure(error)
            log.warning("tidy_failed", reason=str(error))

    def prune(self) -> None:
        """Removes the checkpoints that nothing can return to. Raises what reading the plan raises."""
        plan = self._store.plans.read()
        self._versions_in_plan = set(plan.needed if plan else ())
        self._prune_by_last_plan()

    def _prune_by_last_plan(self) -> None:
        if self._versions_in_plan is None:
            return
        needed = self._versions_in_plan | {self._learner.version}
        self._cache.keep(needed)
        self._checkpoints.prune(needed, since=self._learner.erased.clean_since)
