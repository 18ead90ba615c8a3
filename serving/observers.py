"""What watches the answers of a replica: each observer is told of every batch, and decides nothing about it.

    engine --batch_began, batch_ended--> Observers --> EventRate       events a second
                                                   --> Watchdog        does a batch hang, do all fail by the machine?
                                                   --> SwapStalls      what did the last swaps of weights cost?
                                                   --> ServiceLevel    are the promises of the settings kept?
                                                   --> AnswerCounts    answers by task, arm, precision and version
    any thread --add--> Counts, by name --> reports, metrics, the status page

The engine's thread tells them, in the order of their list, and any thread may ask. Each keeps a bounded past. An
observer must not wait. If one raises, that is a mistake in our code: it is logged once, and neither the batch, nor the
other observers, nor the next batch suffer from it.
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
from serving.models import Live, count_swaps
from serving.queue import Batch, EmbeddedText, Item, Outcome, Unanswered
from wire.records import LATENCY_BOUNDS_MS, Answer, Promise
from wire.tasks import DEFAULT

log = structlog.get_logger("observers")


class BatchObserver(Protocol):
    """Is told of every batch, by the engine's thread. It must neither wait nor keep `live`, which holds the weights.

    Times are by the engine's clock, in seconds.
    """

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        """The batch is about to be answered by what is `live`: by nothing, while there are no weights."""

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        """Every item of the batch has got its outcome, `outcomes[i]` for `batch.items[i]`."""


class Observers:
    """Tells each observer, in their order. What one raises is logged, the first time that it does."""

    def __init__(self, observers: Sequence[BatchObserver]) -> None:
        self._observers = tuple(observers)
        self._failed = set[int]()

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        for observer in self._observers:
            try:
                observer.batch_began(batch, live, began_s)
            except Exception as error:  # noqa: BLE001  # what watches answers must not end them
                self._note(observer, error)

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
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

    def add_all(self, more: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update(more)

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class AnswerCounts:
    """Counts what was answered: by name in `counts`, and by version in the health of the versions that are live."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        """Nothing is answered yet."""

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        found: Counter[str] = Counter()
        given: Counter[tuple[str, str, str]] = Counter()
        by_version: Counter[tuple[str, int]] = Counter()
        num_refused = 0
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                found["answers"] += 1
                for task, answer in ((outcome.task, outcome), *outcome.tasks.items()):
                    given[task, answer.arm, answer.precision] += 1
                    by_version[task, answer.weights_version] += 1
                    num_refused += answer.refused
            elif isinstance(outcome, EmbeddedText):
                found["embeddings"] += 1
                by_version[DEFAULT, outcome.weights_version] += 1
        if not found:
            return
        found["batches"] = 1
        if num_refused:
            found["answers_refused"] = num_refused
        for (task, arm, precision), num in given.items():
            found[count_of(task, f"answers_{precision}")] += num
            found[count_of(task, f"answers_by_{arm}_{precision}")] += num
        self._counts.add_all(found)
        for (task, version), num in by_version.items():
            live[task].health.answered(version, num)


RATE_WINDOW_S: Final = 5.0
"""Time after which an event counts 1/e of what it counted at first."""


class EventRate:
    """How many events come, by the times at which their batches begin.

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

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        self.add(len(batch.items), began_s)

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        """A batch counts when it begins."""

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

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        num_tokens = sum(item.num_tokens for item in batch.items)
        self._busy = (began_s, max(1.0, num_tokens / BATCH_TOKENS))

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self._busy = None
        if any(isinstance(outcome, Unanswered) for outcome in outcomes):
            first_s = self._faults_s[0] if self._faults_s else ended_s
            self._faults_s = (first_s, ended_s)
        else:
            self._faults_s = None

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
    """Measures the stalls. Any thread may wait for a batch, and read the report."""

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

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        number = count_swaps(live)
        pause_ms = 1e3 * max(0.0, began_s - max(self._ended_s, batch.ready_s))
        if number in (0, self.seen_number):
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

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self._ended_s = ended_s


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
    """The batches of the last minute. Any thread may ask for promises, latencies, and the share of busy time."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._batches: deque[_BatchTimes] = deque(maxlen=MAX_BATCHES)
        self._started_s = clock()
        self._batch_began_s = 0.0
        self._latency_counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self._latency_sum_ms = 0.0

    def batch_began(self, batch: Batch[Item], live: Live, began_s: float) -> None:
        self._batch_began_s = began_s

    def batch_ended(self, batch: Batch[Item], live: Live, outcomes: Sequence[Outcome], ended_s: float) -> None:
        num_tokens = sum(item.num_tokens for item in batch.items)
        waits_s = tuple(ended_s - arrived_s for arrived_s in batch.arrived_s)
        with self._lock:
            self._batches.append(_BatchTimes(ended_s, ended_s - self._batch_began_s, num_tokens, waits_s))
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
        since_s = max(now_s - LEVEL_WINDOW_S, self._started_s)
        with self._lock:
            if len(self._batches) == MAX_BATCHES:
                since_s = max(since_s, self._batches[0].ended_s - self._batches[0].busy_s)
            busy_s = sum(batch.busy_s for batch in self._batches if batch.ended_s > since_s)
        return min(1.0, busy_s / (now_s - since_s)) if now_s > since_s else 0.0

    def promises(self, limits: Promises, *, accuracy: float, model_bytes: int) -> tuple[Promise, ...]:
        """Returns each of the `limits` with what was measured; nothing was where no text came within the minute."""
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
"""The promises whose value must not be above their limit; the others must not be below."""


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least a `share` of the values do not exceed.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.75)
    3.0
    """
    return sorted(values)[math.ceil(share * len(values)) - 1]
