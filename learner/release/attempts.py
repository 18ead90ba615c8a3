"""When the next attempt to publish may be made: an interval after the last one, or a pause after a failure.

With thousands of classes a version takes seconds of the learner's thread, for which no label is learnt. So the interval
is at least REST times the processor time of the last attempt. Behind a backlog a version would be outdated before
anybody has it. So the interval is also the time that the labels which are not read yet will take, up to MOST_S.

A failure that comes again is counted each time and logged once. It tells the circuit breaker that the store is away,
and the cache which tensors the store may have lost.
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
"""How long labels are learnt after an attempt, in units of its processor time: so it takes a third at most."""

log = structlog.get_logger("learner")


MOST_S: Final = 5.0
"""The longest interval between two attempts behind a backlog."""


class Attempts:
    """Belongs to the learner's thread. `tensors` are those of the last attempt.

    `behind_s`: how long the labels that are not read yet will take, as the learner's process sees it.
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
        self._begun_at_s = -MOST_S
        self.behind_s = 0.0
        self._last_failure = ""
        self.tensors: Mapping[str, StoredTensor] = {}

    @property
    def may_begin(self) -> bool:
        """Whether interval and pause are over, and the store is not known to be away."""
        waits_until_s = self._begun_at_s + min(self.behind_s, MOST_S)
        is_time = self._clock_s() >= max(self._not_before_s, self._rested_at_s, waits_until_s)
        return is_time and self._leadership.breaker.allows_requests

    def begin(self) -> None:
        """An attempt begins now."""
        self._begun_at_s = self._clock_s()
        self._not_before_s = self._begun_at_s + self._config.publish_interval_s

    def rest(self, work_s: float) -> None:
        """The attempt has ended, and took `work_s` of processor time."""
        self._rested_at_s = self._clock_s() + REST * work_s

    def end_interval(self) -> None:
        """Ends the interval of the settings."""
        self._not_before_s = 0.0

    def succeed(self) -> None:
        """The attempt has succeeded: the next failure is a new one."""
        self._last_failure = ""

    def fail(self, error: Exception) -> None:
        """The attempt has failed: the next one comes after a pause."""
        reason = type(error).__name__
        name = "checkpoints_failed" if isinstance(error, CheckpointFailed) else "publications_failed"
        self._counts[name] += 1
        self.react_to(error)
        self._not_before_s = self._clock_s() + 1e-3 * self._config.retry_backoff_ms
        if reason != self._last_failure:
            log.warning("publish_failed", reason=reason, detail=str(error))
        self._last_failure = reason

    def react_to(self, error: Exception) -> None:
        """Takes in what the error says about the store."""
        if isinstance(error, StoreUnavailable):
            self._leadership.breaker.trip(error)
        elif isinstance(error, BlobCorrupt | NotFound):
            self.cache.suspect(self.tensors)
