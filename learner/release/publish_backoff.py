"""Decides when the next version may be published: an interval after each attempt, and a pause after a failure.

With thousands of classes, making a version keeps the learner's thread busy for seconds, in which it learns no label. So
the interval is at least REST times the processor time of the last attempt. If many labels are unread, a version would
be outdated before any replica loads it. So the interval is also at least the time in which the unread labels will be
learnt, up to MAX_BACKLOG_S.

If the same failure occurs again, it is counted but not logged. A failure may also show that the store is away, and then
opens the circuit breaker. Or it shows that the store may have lost tensors, which are then verified.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from learner.config import LearnerConfig
from learner.encoder.served import StoredTensor
from learner.errors import CheckpointFailed
from learner.leadership import Leadership
from learner.release.tensors import TensorCache
from wire.errors import BlobCorrupt, NotFound, StoreUnavailable

REST: Final = 2.0
"""The time for labels after an attempt, as a multiple of the attempt's processor time. With 2.0, publishing takes at
most a third of the learner's time."""

MAX_BACKLOG_S: Final = 5.0
"""The longest interval between two attempts because of unread labels."""

log = structlog.get_logger("learner")


class PublishBackoff:
    """Decides when the next attempt to publish may begin. Belongs to the learner's thread.

    - `behind_s`: the time in which the unread labels will be learnt. The learner's process sets it.
    - `tensors`: the tensors of the last attempt.
    - `cache`: the tensors of published versions.
    """

    def __init__(
        self,
        counts: Counter[str],
        leadership: Leadership,
        cache: TensorCache,
        *,
        config: LearnerConfig,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._leadership = leadership
        self.cache = cache
        self._config = config
        self._clock_s = clock_s
        self._not_before_s = 0.0
        self._rested_at_s = 0.0
        self._begun_at_s = -MAX_BACKLOG_S
        self.behind_s = 0.0
        self._last_failure = ""
        self.tensors: Mapping[str, StoredTensor] = {}

    @property
    def may_begin(self) -> bool:
        """Whether an attempt may begin: the interval is over, and the circuit breaker allows requests to the store."""
        waits_until_s = self._begun_at_s + min(self.behind_s, MAX_BACKLOG_S)
        is_time = self._clock_s() >= max(self._not_before_s, self._rested_at_s, waits_until_s)
        return is_time and self._leadership.breaker.allows_requests

    def begin(self) -> None:
        """Records that an attempt begins now."""
        self._begun_at_s = self._clock_s()
        self._not_before_s = self._begun_at_s + self._config.publish_interval_s

    def rest(self, work_s: float) -> None:
        """Records that the attempt has ended, after `work_s` seconds of processor time."""
        self._rested_at_s = self._clock_s() + REST * work_s

    def end_interval(self) -> None:
        """Ends the interval `publish_interval_s` early."""
        self._not_before_s = 0.0

    def succeed(self) -> None:
        """Records that the attempt has succeeded: the next failure is logged again."""
        self._last_failure = ""

    def fail(self, error: Exception) -> None:
        """Records that the attempt has failed: the next one comes after a pause."""
        reason = type(error).__name__
        name = "checkpoints_failed" if isinstance(error, CheckpointFailed) else "publications_failed"
        self._counts[name] += 1
        self.react_to(error)
        self._not_before_s = self._clock_s() + 1e-3 * self._config.retry_backoff_ms
        if reason != self._last_failure:
            log.warning("publish_failed", reason=reason, detail=str(error))
        self._last_failure = reason

    def react_to(self, error: Exception) -> None:
        """Opens the circuit breaker if the store is away; marks `tensors` as suspect if the store has lost some."""
        if isinstance(error, StoreUnavailable):
            self._leadership.breaker.trip(error)
        elif isinstance(error, BlobCorrupt | NotFound):
            self.cache.suspect(self.tensors)
