"""What watches the answers of a replica: each observer is told of the batches, and decides nothing about them.

    engine --batch begins, ends, failed--> EventRate       events a second: which share of them is answered twice
                                       --> Watchdog        does a batch hang, does each fail by a fault of the machine?
                                       --> SwapStalls      what did the last swaps of weights cost?
                                       --> ServiceLevel    are the promises of the settings kept?
    any thread --add--> Counts, by name                    --> reports, metrics, the status page

The engine's thread tells them, and any thread may ask. Each keeps a bounded past.
"""

import bisect
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serving.config import ServiceLevelConfig
from serving.errors import Unhealthy
from serving.queue import Batch, Item
from wire.records import LATENCY_BOUNDS_MS, Promise

SEPARATOR = "/"
"""What is between the name of a task and that of a count of its own; no task has it in its name."""


def count_of(task: str, name: str) -> str:
    """Returns the name of a count of one task; that of the default task has no prefix.

    >>> count_of("", "answers_int8"), count_of("urgency", "answers_int8")
    ('answers_int8', 'urgency/answers_int8')
    """
    return f"{task}{SEPARATOR}{name}" if task else name


def counts_of(task: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts of one task, by their names without it; those of the replica are the default task's.

    >>> counts_of("urgency", {"batches": 2, "urgency/answers_int8": 3, "queue/answers_int8": 5})
    {'answers_int8': 3}
    """
    found = {name.rpartition(SEPARATOR): num for name, num in counts.items()}
    return {name: num for (prefix, _, name), num in found.items() if prefix == task}


class Counts:
    """The counters of a replica. Names are stable: reports and the status page show them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, num: int = 1) -> None:
        with self._lock:
            self._counts[name] += num

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


RATE_WINDOW_S: Final = 5.0
"""Time after which an event counts 1/e of what it counted at first."""


class EventRate:
    """The events of each batch, with the time at which it began.

    >>> rate = EventRate()
    >>> for second in range(60):
    ...     rate.add(20, second)
    >>> 20 <= rate.per_s < 23
    True
    """

    def __init__(self) -> None:
        self._last_s = -math.inf
        self.per_s = 0.0
        """Events a second, as of the last batch."""

    def add(self, num_events: int, now_s: float) -> None:
        """Adds a batch; time may not go back."""
        self.per_s *= math.exp((self._last_s - now_s) / RATE_WINDOW_S)
        self.per_s += num_events / RATE_WINDOW_S
        self._last_s = now_s


BATCH_TOKENS: Final = 1_024
"""The tokens of a batch that may take the time-out once."""


class Watchdog:
    """Watches batches. The engine's thread tells it of them; any thread may check."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy: tuple[float, float] | None = None  # since when, and how many times the time-out it may take
        self._faults_s: tuple[float, float] | None = None  # times of the first and the last fault in a row

    def batch_begins(self, num_tokens: int) -> None:
        self._busy = (self._clock(), max(1.0, num_tokens / BATCH_TOKENS))

    def batch_ends(self) -> None:
        self._busy = None

    def record(self, *, is_fault: bool) -> None:
        """Takes note whether the machine failed at a batch."""
        if not is_fault:
            self._faults_s = None
            return
        now_s = self._clock()
        first_s = self._faults_s[0] if self._faults_s else now_s
        self._faults_s = (first_s, now_s)

    @property
    def has_fault(self) -> bool:
        """Whether the machine failed at the last batch."""
        return self._faults_s is not None

    def check(self, timeout_s: float) -> None:
        """Raises Unhealthy where a batch takes more than `timeout_s` for each BATCH_TOKENS, or faults last longer."""
        busy = self._busy
        if busy is not None and self._clock() - busy[0] > timeout_s * busy[1]:
            raise Unhealthy(f"one batch has taken more than {timeout_s * busy[1]:g} s")
        first_s, last_s = self._faults_s or (0.0, 0.0)
        if last_s - first_s > timeout_s:
            raise Unhealthy(f"the model has failed for more than {timeout_s:g} s")


NUM_STALLS = 64
"""Swaps whose stalls are kept; a report is made far more often."""


@dataclass(frozen=True, slots=True)
class StallReport:
    """The number of swaps before the last batch, and the stalls of the last NUM_STALLS of them, oldest first.

    `pauses_ms[i]` is the pause before the last batch without a swap that came before swap i.
    """

    num: int
    stalls_ms: tuple[float, ...]
    pauses_ms: tuple[float, ...]


class SwapStalls:
    """Measures the stalls. The engine's thread calls `batch_begins` and `batch_ends`; any thread may read the rest."""

    def __init__(self) -> None:
        self.seen_number = 0
        """The number of the active versions under which a batch last began."""
        self._ended_s = 0.0
        self._pause_ms = 0.0
        self._num = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=NUM_STALLS)  # stall and pause in ms
        self._num_begun = 0
        self._has_begun = threading.Condition()  # a batch

    @property
    def report(self) -> StallReport:
        stalls_ms, pauses_ms = zip(*self._recent, strict=True) if self._recent else ((), ())
        return StallReport(self._num, stalls_ms, pauses_ms)

    def batch_begins(self, number: int | None, *, ready_s: float, now_s: float) -> None:
        """A batch that was ready at `ready_s` begins at `now_s`, under the active versions `number` (None: none)."""
        pause_ms = 1e3 * max(0.0, now_s - max(self._ended_s, ready_s))
        if number is None or number == self.seen_number:
            self._pause_ms = pause_ms
        else:
            swaps = [(0.0, 0.0)] * (number - self.seen_number - 1)  # no batch waited for the swaps before the last one
            if self.seen_number:  # the first weights of all replaced nothing
                swaps.append((pause_ms, self._pause_ms))
            self._recent.extend(swaps)
            self._num += len(swaps)
        with self._has_begun:
            self.seen_number = number or self.seen_number
            self._num_begun += 1
            self._has_begun.notify_all()

    def await_number(self, number: int, timeout_s: float) -> bool:
        """Waits until a batch has begun under `number` or later ones; returns False after `timeout_s` seconds."""
        with self._has_begun:
            return self._has_begun.wait_for(lambda: self.seen_number >= number, timeout_s)

    def await_next(self, timeout_s: float) -> bool:
        """Waits until one more batch has begun; returns False after `timeout_s` seconds."""
        with self._has_begun:
            num_before = self._num_begun
            return self._has_begun.wait_for(lambda: self._num_begun > num_before, timeout_s)

    def batch_ends(self, now_s: float) -> None:
        self._ended_s = now_s


LEVEL_WINDOW_S: Final = 60.0
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
        since_s = max(now_s - LEVEL_WINDOW_S, self._began_s)
        with self._lock:
            if len(self._batches) == MAX_BATCHES:
                since_s = max(since_s, self._batches[0].ended_s - self._batches[0].busy_s)
            busy_s = sum(batch.busy_s for batch in self._batches if batch.ended_s > since_s)
        return min(1.0, busy_s / (now_s - since_s)) if now_s > since_s else 0.0

    def promises(self, level: ServiceLevelConfig, *, accuracy: float, model_bytes: int) -> tuple[Promise, ...]:
        """Returns each limit of `level` with what was measured; nothing was where no text came within the minute."""
        since_s = self._clock() - LEVEL_WINDOW_S
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
