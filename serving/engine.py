"""The model's thread: batch -> one read of `live` -> forward -> answers, each delivered to its caller.

    BatchQueue --take--> items --choose--> precisions --predict, by task--> Answer --item.done--> Kafka, HTTP

A swap of weights is one assignment, by `Engine.activate`, which the swap of each task calls at any time. A batch reads
what is live once, so each task answers it under one plan, and every answer names the version that gave it. Nothing else
is shared with the swaps. The cost of a swap is measured, not assumed (`serving/swap_stalls.py`).

Rejected: a lock around the model (a swap would wait for a batch), and writing into live weights (a batch could see half
of them).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from serving.answer_traces import traced
from serving.answering import Answering
from serving.batcher import BatchQueue, Item, Unanswered
from serving.counts import Counts
from serving.deaths import Deaths
from serving.engine_config import PrecisionConfig
from serving.errors import Unhealthy
from serving.event_rate import EventRate
from serving.predict import PAIRED_PER_S, Predict
from serving.service_level import ServiceLevel
from serving.swap_stalls import StallReport, SwapStalls
from serving.watchdog import Watchdog
from serving.weights.active import ActiveVersions, Live
from serving.weights.precision import Choice
from wire.tasks import DEFAULT
from wire.threads import BackgroundThread

BATCH_WITHIN_S = 0.05
"""Longest time that a swap waits for a batch: the last one before a new encoder answers, and the first one under a new
plan, which needs interpreter and processor more than the swap's report does."""


class Engine:
    """Answers queued items, under the versions that were activated last, until the queue is closed and empty."""

    def __init__(
        self,
        queue: BatchQueue[Item],
        counts: Counts,
        predict: Predict,
        *,
        precision: PrecisionConfig,
        deaths: Deaths,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live: Live = {}
        self._activating = threading.Lock()
        self._queue = queue
        self._counts = counts
        self._clock = clock
        self._watchdog = Watchdog(clock)
        self._answering = Answering(queue, counts, predict, precision=precision, watchdog=self._watchdog, deaths=deaths)
        self._stalls = SwapStalls()
        self._rate = EventRate()
        self.level = ServiceLevel(clock=clock)
        self._thread = BackgroundThread(self._run, name="engine")

    def start(self) -> None:
        self._thread.start()

    @property
    def live(self) -> ActiveVersions | None:
        """The versions of the default task for the next batch; None before the first. Any thread may ask."""
        return self.live_of(DEFAULT)

    def live_of(self, task: str) -> ActiveVersions | None:
        """The versions under which the next batch runs; None before the first weights. Any thread may ask."""
        return self._live.get(task)

    def activate(self, versions: ActiveVersions, task: str = DEFAULT) -> int:
        """Makes `versions` live: the next batch runs under them; returns their number, for `await_batch`. Any thread
        may call it."""
        with self._activating:
            self._live = {**self._live, task: versions}
            return _number_of(self._live)

    @property
    def choice(self) -> Choice:
        """The precisions of the last batch. Any thread may ask."""
        return self._answering.choice

    @property
    def swap_stalls(self) -> StallReport:
        """The stalls of the last swaps. Any thread may ask."""
        return self._stalls.report

    def await_batch(self, number: int, timeout_s: float = BATCH_WITHIN_S) -> bool:
        """Waits until a batch has begun under the versions `number`, or later ones. Returns False after `timeout_s`."""
        return self._stalls.await_number(number, timeout_s)

    def await_next_batch(self, timeout_s: float = BATCH_WITHIN_S) -> bool:
        """Waits until another batch has begun, whatever is live. Returns False after `timeout_s`."""
        return self._stalls.await_next(timeout_s)

    def check(self, *, batch_timeout_s: float) -> None:
        """Raises Unhealthy where the thread has ended, or has hung: see `serving.watchdog`."""
        self._thread.check(Unhealthy)
        self._watchdog.check(batch_timeout_s)

    def join(self, timeout_s: float) -> None:
        """Waits for the thread to end, which closing the queue causes."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Answers until the queue is closed.

        consumes: Batch from the queue
        produces: Answer, ItemFailure or Unanswered, to the `done` of each item
        waits for: a batch
        unblocked by: a text, or close of the queue
        """
        while (batch := self._queue.take()) is not None:
            if batch.num_abandoned:
                self._counts.add("abandoned", batch.num_abandoned)
            if not batch.items:
                continue
            live = self._live
            now_s = self._clock()
            self._rate.add(len(batch.items), now_s)
            share = min(1.0, PAIRED_PER_S / self._rate.per_s)
            is_lean = self._queue.has_full_batch
            live = {task: replace(each, paired_share=share, is_lean=is_lean) for task, each in live.items()}
            self._watchdog.batch_begins(sum(item.num_tokens for item in batch.items))
            self._stalls.batch_begins(_number_of(live) or None, ready_s=batch.ready_s, now_s=now_s)
            outcomes = traced(batch, self._answering.outcomes(batch.items, live), began_s=now_s, ended_s=self._clock())
            self._watchdog.record(is_fault=any(isinstance(outcome, Unanswered) for outcome in outcomes))
            for item, outcome in zip(batch.items, outcomes, strict=True):
                item.done(outcome)
            ended_s = self._clock()
            self._stalls.batch_ends(ended_s)
            self.level.add(batch, began_s=now_s, ended_s=ended_s)
            self._watchdog.batch_ends()
            del live  # the old weights are freed with their last batch, not when the next one comes


def _number_of(live: Live) -> int:
    """Returns a number that grows by one with every swap of any task; 0 before the first."""
    return sum(each.number for each in live.values())
