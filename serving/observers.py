"""Observers of a replica's batches. The engine calls each observer for every batch; no observer changes an answer.

    engine --batch_began, batch_ended--> Observers --> EventRate       events a second
                                                   --> Watchdog        does a batch hang, do machine faults continue?
                                                   --> SwapStalls      what did the last swaps of weights cost?
                                                   --> ServiceLevel    are the promises of the settings kept?
                                                   --> AnswerCounts    answers by task, arm, precision and version
    any thread --add--> Counts, by name --> reports, metrics, the status page

The engine's thread calls the observers in their order; any thread may read their measurements. Each observer keeps a
bounded history, and must not wait. An observer that raises is a mistake in our code: its first error is logged, and the
batch, the other observers and later batches go on.
"""

import bisect
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from serving.config import Promises
from serving.errors import Unhealthy
from serving.models import LiveVersions, count_swaps
from serving.queue import Batch, EmbeddedText, Item, Outcome, Unanswered
from wire.records import LATENCY_BOUNDS_MS, Answer, Promise
from wire.tasks import DEFAULT

log = structlog.get_logger("observers")


class BatchObserver(Protocol):
    """Watches batches. The engine's thread calls it. It must neither wait nor keep `live`, which holds the weights.

    Times are in seconds, by the engine's clock.
    """

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        """The batch is about to be answered by the `live` versions; `live` is empty while there are no weights."""

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        """Every item has received its outcome: `outcomes[i]` for `batch.items[i]`."""


class Observers:
    """Calls several observers in their order. Logs the first error of each."""

    def __init__(self, observers: Sequence[BatchObserver]) -> None:
        self._observers = tuple(observers)
        self._failed = set[int]()

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        for observer in self._observers:
            try:
                observer.batch_began(batch, live, began_s)
            except Exception as error:  # noqa: BLE001  # a broken observer must not stop the engine
                self._note(observer, error)

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        for observer in self._observers:
            try:
                observer.batch_ended(batch, live, outcomes, ended_s)
            except Exception as error:  # noqa: BLE001
                self._note(observer, error)

    def _note(self, observer: BatchObserver, error: Exception) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            log.error("observer_failed", observer=type(observer).__name__, error=str(error), exc_info=error)


SEPARATOR = "/"
"""Separates a task's name from the name of its counter. No task's name contains it."""


def task_counter(task: str, name: str) -> str:
    """Returns the name of a task's counter; the default task has no prefix.

    >>> task_counter("", "answers_int8"), task_counter("urgency", "answers_int8")
    ('answers_int8', 'urgency/answers_int8')
    """
    return f"{task}{SEPARATOR}{name}" if task else name


def task_counts(task: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts of one task by name, without the prefix. The default task has the replica's own counts, too.

    >>> task_counts("urgency", {"batches": 2, "urgency/answers_int8": 3, "queue/answers_int8": 5})
    {'answers_int8': 3}
    """
    by_parts = {name.rpartition(SEPARATOR): num for name, num in counts.items()}
    return {name: num for (prefix, _, name), num in by_parts.items() if prefix == task}


class Counts:
    """The counters of a replica, by name. Any thread may call it.

    Names are stable: reports and the status page show them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, num: int = 1) -> None:
        with self._lock:
            self._counts[name] += num

    def add_all(self, more: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update(more)

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class AnswerCounts:
    """Counts answers: by name in `counts`, and by version in the `health` of the live versions."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        """Nothing is answered yet."""

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        sums: Counter[str] = Counter()
        by_arm: Counter[tuple[str, str, str]] = Counter()
        by_version: Counter[tuple[str, int]] = Counter()
        num_refused = 0
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                sums["answers"] += 1
                for task, answer in ((outcome.task, outcome), *outcome.tasks.items()):
                    by_arm[task, answer.arm, answer.precision] += 1
                    by_version[task, answer.weights_version] += 1
                    num_refused += answer.refused
            elif isinstance(outcome, EmbeddedText):
                sums["embeddings"] += 1
                by_version[DEFAULT, outcome.weights_version] += 1
        if not sums:
            return
        sums["batches"] = 1
        if num_refused:
            sums["answers_refused"] = num_refused
        for (task, arm, precision), num in by_arm.items():
            sums[task_counter(task, f"answers_{precision}")] += num
            sums[task_counter(task, f"answers_by_{arm}_{precision}")] += num
        self._counts.add_all(sums)
        for (task, version), num in by_version.items():
            live[task].health.count_answers(version, num)


RATE_WINDOW_S: Final = 5.0
"""Time constant in seconds of the exponential moving average."""


class EventRate:
    """The rate of events as an exponential moving average, by the times at which their batches begin.

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

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        self.add(len(batch.items), began_s)

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        """A batch counts when it begins."""

    def add(self, num_events: int, now_s: float) -> None:
        """Adds a batch of `num_events`. `now_s` may not decrease."""
        # The rate decays exponentially with the time since the last batch. Each event adds 1 / RATE_WINDOW_S.
        self.per_s *= math.exp((self._last_s - now_s) / RATE_WINDOW_S)
        self.per_s += num_events / RATE_WINDOW_S
        self._last_s = now_s


BATCH_TOKENS: Final = 1_024
"""The time-out is for a batch of at most this many tokens. A larger batch may take proportionally longer."""


class Watchdog:
    """Detects a batch that hangs, and machine faults that continue. Any thread may call `check`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # The start of the running batch, and the factor by which its size multiplies the time-out.
        self._busy: tuple[float, float] | None = None
        # The times of the first and the last of the consecutive faults.
        self._faults_s: tuple[float, float] | None = None

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        num_tokens = sum(item.num_tokens for item in batch.items)
        self._busy = (began_s, max(1.0, num_tokens / BATCH_TOKENS))

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self._busy = None
        if any(isinstance(outcome, Unanswered) for outcome in outcomes):
            first_s = self._faults_s[0] if self._faults_s else ended_s
            self._faults_s = (first_s, ended_s)
        else:
            self._faults_s = None

    @property
    def has_fault(self) -> bool:
        """Whether the last batch had a machine fault."""
        return self._faults_s is not None

    def check(self, timeout_s: float) -> None:
        """Raises Unhealthy if a batch hangs, or if consecutive faults last longer than `timeout_s` seconds.

        A batch hangs if it has run for more than `timeout_s`, times its tokens / BATCH_TOKENS if that is above 1.
        """
        busy = self._busy
        if busy is not None and self._clock() - busy[0] > timeout_s * busy[1]:
            raise Unhealthy(f"one batch has taken more than {timeout_s * busy[1]:g} s")
        first_s, last_s = self._faults_s or (0.0, 0.0)
        if last_s - first_s > timeout_s:
            raise Unhealthy(f"the model has failed for more than {timeout_s:g} s")


NUM_STALLS = 64
"""Number of swaps whose stalls are kept. There is a report long before there are this many new swaps."""


@dataclass(frozen=True, slots=True)
class StallReport:
    """The pauses between two batches in which a swap of weights happened, compared with pauses without a swap.

    - `num`: the number of swaps before the last batch
    - `stalls_ms`: the pauses of the last NUM_STALLS swaps, oldest first
    - `pauses_ms[i]`: the last pause without a swap before swap i

    A pause begins when the next batch is ready, not before.
    """

    num: int
    stalls_ms: tuple[float, ...]
    pauses_ms: tuple[float, ...]


class SwapStalls:
    """Measures how long swaps of weights stall the engine. Any thread may wait for a batch, and read the report."""

    def __init__(self) -> None:
        self.seen_number = 0
        """The number of swaps before the last batch that began."""
        self._ended_s = 0.0
        self._pause_ms = 0.0
        self._num = 0
        # Pairs of a stall and the pause before it, in milliseconds.
        self._recent: deque[tuple[float, float]] = deque(maxlen=NUM_STALLS)
        self._num_begun = 0
        self._batch_has_begun = threading.Condition()

    @property
    def report(self) -> StallReport:
        stalls_ms, pauses_ms = zip(*self._recent, strict=True) if self._recent else ((), ())
        return StallReport(self._num, stalls_ms, pauses_ms)

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        number = count_swaps(live)
        # Time in which no batch was ready does not count as a pause.
        pause_ms = 1e3 * max(0.0, began_s - max(self._ended_s, batch.ready_s))
        if number in (0, self.seen_number):
            self._pause_ms = pause_ms
        else:
            # Of several swaps since the last batch, a batch waited only for the last one.
            swaps = [(0.0, 0.0)] * (number - self.seen_number - 1)
            # The very first weights replaced no others, so they do not count as a swap.
            if self.seen_number:
                swaps.append((pause_ms, self._pause_ms))
            self._recent.extend(swaps)
            self._num += len(swaps)
        with self._batch_has_begun:
            self.seen_number = number or self.seen_number
            self._num_begun += 1
            self._batch_has_begun.notify_all()

    def await_number(self, number: int, timeout_s: float) -> bool:
        """Waits until a batch has begun under swap `number` or a later one. Returns False after `timeout_s` seconds."""
        with self._batch_has_begun:
            return self._batch_has_begun.wait_for(lambda: self.seen_number >= number, timeout_s)

    def await_next(self, timeout_s: float) -> bool:
        """Waits until one more batch has begun. Returns False after `timeout_s` seconds."""
        with self._batch_has_begun:
            num_before = self._num_begun
            return self._batch_has_begun.wait_for(lambda: self._num_begun > num_before, timeout_s)

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self._ended_s = ended_s


LEVEL_WINDOW_S: Final = 60.0
"""Time in seconds over which promises and the busy share are measured."""

MAX_BATCHES: Final = 1_024
"""Largest number of batches that are kept. If there were more within the window, measurements cover a shorter time."""


@dataclass(frozen=True, slots=True)
class _BatchTimes:
    ended_s: float
    busy_s: float
    num_tokens: int
    waits_s: tuple[float, ...]


class ServiceLevel:
    """Measures service-level objectives and the busy share over the last minute, and latencies since the start.

    Any thread may read them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._batches: deque[_BatchTimes] = deque(maxlen=MAX_BATCHES)
        self._started_s = clock()
        self._batch_began_s = 0.0
        self._latency_counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self._latency_sum_ms = 0.0

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        self._batch_began_s = began_s

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        num_tokens = sum(item.num_tokens for item in batch.items)
        waits_s = tuple(ended_s - arrived_s for arrived_s in batch.arrived_s)
        with self._lock:
            self._batches.append(_BatchTimes(ended_s, ended_s - self._batch_began_s, num_tokens, waits_s))
            for wait_s in waits_s:
                self._latency_counts[bisect.bisect_left(LATENCY_BOUNDS_MS, 1e3 * wait_s)] += 1
            self._latency_sum_ms += 1e3 * sum(waits_s)

    def latencies(self) -> tuple[tuple[int, ...], float]:
        """Returns the latency histogram since the start, and the sum of the latencies in milliseconds.

        Count i is the number of texts up to bound i of LATENCY_BOUNDS_MS and above the bound before; the last count is
        the number of texts above all bounds.
        """
        with self._lock:
            return tuple(self._latency_counts), self._latency_sum_ms

    def busy_share(self) -> float:
        """Returns the share of the last minute in which the model computed, in [0, 1]."""
        now_s = self._clock()
        since_s = max(now_s - LEVEL_WINDOW_S, self._started_s)
        with self._lock:
            # Older batches were dropped, so measure from the start of the oldest batch that is known.
            if len(self._batches) == MAX_BATCHES:
                since_s = max(since_s, self._batches[0].ended_s - self._batches[0].busy_s)
            busy_s = sum(batch.busy_s for batch in self._batches if batch.ended_s > since_s)
        return min(1.0, busy_s / (now_s - since_s)) if now_s > since_s else 0.0

    def promises(self, limits: Promises, *, accuracy: float, model_bytes: int) -> tuple[Promise, ...]:
        """Returns each service-level objective in `limits` with its measured value; None if nothing was measured.

        Latency and throughput are None if no text came within the last minute. Accuracy and size are None if the
        arguments `accuracy` and `model_bytes` are 0.
        """
        since_s = self._clock() - LEVEL_WINDOW_S
        with self._lock:
            batches = [batch for batch in self._batches if batch.ended_s >= since_s]
        waits_s: list[float] = []
        for batch in batches:
            waits_s += batch.waits_s
        busy_s = sum(batch.busy_s for batch in batches)
        num_tokens = sum(batch.num_tokens for batch in batches)
        measured = (
            ("p99_ms", limits.get("p99_ms"), 1e3 * percentile(waits_s, 0.99) if waits_s else None),
            ("answers_per_s", limits.get("answers_per_s"), len(waits_s) / busy_s if busy_s else None),
            ("tokens_per_s", limits.get("tokens_per_s"), num_tokens / busy_s if busy_s else None),
            ("accuracy", limits.get("accuracy"), accuracy or None),
            ("model_mb", limits.get("model_mb"), model_bytes / 1e6 if model_bytes else None),
        )
        return tuple(
            Promise(name=name, limit=limit, is_ceiling=name in CEILINGS, value=value)
            for name, limit, value in measured
            if limit
        )


CEILINGS: Final = ("p99_ms", "model_mb")
"""The objectives whose value must not be above the limit. The values of all others must not be below it."""


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the percentile: the smallest value such that at least a `share` of the values are not above it. Needs one
    value.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.75)
    3.0
    """
    return sorted(values)[math.ceil(share * len(values)) - 1]
