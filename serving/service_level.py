"""Measures what a replica promises, over the last minute, and holds it against the promises of its settings.

    engine --add: each batch, with the times at which its texts came--> ServiceLevel --measured--> Promise of each limit

The 99th percentile is that of the time from the queue to the answer. Rates are those of a replica that is always busy:
answers, and tokens, for each second in which the model computes. So they can be checked under any load. Accuracy is
what the learner measured for the version and the precision that answer.

Rejected: histograms (a minute of batches is small, and an exact percentile needs no bounds that fit the machine).
"""

import bisect
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from serving.batcher import Batch, Item
from serving.engine_config import ServiceLevelConfig
from wire.records import LATENCY_BOUNDS_MS, Promise

WINDOW_S: Final = 60.0
MAX_BATCHES: Final = 1_024
"""The last batches that are known, where more came within the window."""


@dataclass(frozen=True, slots=True)
class _BatchTimes:
    ended_s: float
    busy_s: float
    num_tokens: int
    waits_s: tuple[float, ...]


class ServiceLevel:
    """The batches of the last minute. The engine's thread calls `add`, any thread `promises`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._batches: deque[_BatchTimes] = deque(maxlen=MAX_BATCHES)
        self._began_s = clock()
        self._latency_counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self._latency_sum_ms = 0.0

    def add(self, batch: Batch[Item], *, began_s: float, ended_s: float) -> None:
        """Adds a batch that was answered between these times."""
        num_tokens = sum(item.num_tokens for item in batch.items)
        waits_s = tuple(ended_s - arrived_s for arrived_s in batch.arrived_s)
        with self._lock:
            self._batches.append(_BatchTimes(ended_s, ended_s - began_s, num_tokens, waits_s))
            for wait_s in waits_s:
                self._latency_counts[bisect.bisect_left(LATENCY_BOUNDS_MS, 1e3 * wait_s)] += 1
            self._latency_sum_ms += 1e3 * sum(waits_s)

    def latencies(self) -> tuple[tuple[int, ...], float]:
        """Returns how many texts took how long since the start, by LATENCY_BOUNDS_MS, and the sum in milliseconds."""
        with self._lock:
            return tuple(self._latency_counts), self._latency_sum_ms

    def busy_share(self) -> float:
        """Returns the share of the last minute in which the model computed."""
        now_s = self._clock()
        since_s = max(now_s - WINDOW_S, self._began_s)
        with self._lock:
            if len(self._batches) == MAX_BATCHES:
                since_s = max(since_s, self._batches[0].ended_s - self._batches[0].busy_s)
            busy_s = sum(batch.busy_s for batch in self._batches if batch.ended_s > since_s)
        return min(1.0, busy_s / (now_s - since_s)) if now_s > since_s else 0.0

    def promises(self, level: ServiceLevelConfig, *, accuracy: float, model_bytes: int) -> tuple[Promise, ...]:
        """Returns each limit of `level` with what was measured; nothing was where no text came within the minute."""
        since_s = self._clock() - WINDOW_S
        with self._lock:
            batches = [batch for batch in self._batches if batch.ended_s >= since_s]
        waits_s: list[float] = []
        for batch in batches:
            waits_s += batch.waits_s
        busy_s = sum(batch.busy_s for batch in batches)
        num_tokens = sum(batch.num_tokens for batch in batches)
        measured = (
            ("p99_ms", level.p99_ms, 1e3 * percentile(waits_s, 0.99) if waits_s else None),
            ("answers_per_s", level.answers_per_s, len(waits_s) / busy_s if busy_s else None),
            ("tokens_per_s", level.tokens_per_s, num_tokens / busy_s if busy_s else None),
            ("accuracy", level.accuracy, accuracy or None),
            ("model_mb", level.model_mb, model_bytes / 1e6 if model_bytes else None),
        )
        return tuple(
            Promise(name=name, limit=limit, is_ceiling=name in CEILINGS, value=value)
            for name, limit, value in measured
            if limit
        )


CEILINGS: Final = ("p99_ms", "model_mb")
"""The promises whose value must not be above their limit; the others must not be below."""


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least a `share` of the values do not exceed.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.75)
    3.0
    """
    return sorted(values)[math.ceil(share * len(values)) - 1]
