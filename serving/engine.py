"""The model's thread: takes a batch, answers it under the live versions, and hands each answer to its caller.

    BatchQueue --take--> items --choose_precisions, predict_by_task--> Answer --filters, item.done--> Kafka, HTTP
        '--began, ended--> observers    '--error--> each item alone: is an event, a version, or the machine to blame?

A hot swap of weights is one assignment: the `Swap` of a task may call `Engine.activate` at any time. The engine reads
the live versions once for each batch. So each task answers the whole batch under one plan, and every answer names the
version that gave it. Swaps and engine share nothing else. Observers (`observers.py`) measure batches, for example the
cost of a swap. If a feature is off, its observer or filter does not exist.

If a forward pass raises an exception, the cause is an event of the batch, a version, or the machine. The engine finds
out which of them:

- It tries each event alone.
- If an event fails alone, the stable version tries it. If the stable version answers, the engine counts the versions
  that cannot (`Health`), and the rollout withdraws them.
- If the stable version fails, too, the engine tries the event that was answered last, under the same arm. If that event
  fails now, or if memory ran out, the machine is to blame: the outcome is `Unanswered`, and the event is tried again
  later. If machine faults continue, the replica becomes unhealthy.

Events that were open when a process was killed are answered one by one. If such an event kills another process, it is
refused (`serving/deaths.py`).

Rejected: a lock around the model (a swap would wait for a batch), writing into live weights (a batch could use a
mixture of both), and one failure for a whole batch (because of one bad event, the others would get no answer).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import structlog
import torch

from model.errors import UnreadableInput
from serving.config import PrecisionConfig
from serving.deaths import Deaths
from serving.errors import Unhealthy
from serving.filters import AnswerFilter, apply_filters
from serving.models import (
    NO_CHOICE,
    ActiveVersions,
    LiveVersions,
    PrecisionChoice,
    all_versions,
    choose_precisions,
    count_swaps,
)
from serving.observers import (
    AnswerCounts,
    BatchObserver,
    Counts,
    EventRate,
    Observers,
    ServiceLevel,
    StallReport,
    SwapStalls,
    Watchdog,
)
from serving.predict import PAIRED_PER_S, Predict, embed_many, group_rows, predict_by_task
from serving.queue import BatchQueue, EmbeddedText, Item, ItemFailure, Outcome, Unanswered
from wire.message import quote_text
from wire.records import Answer
from wire.tasks import DEFAULT
from wire.threads import BackgroundThread

BATCH_WITHIN_S = 0.05
"""Longest time in seconds that a swap waits for a batch to begin.

A swap waits for the last batch before a new encoder answers. It also waits for the first batch under a new plan, so
that the swap's report does not compete with that batch for the interpreter and the processor.
"""


class Engine:
    """Answers queued items under the most recently activated versions, until the queue is closed and empty."""

    def __init__(
        self,
        queue: BatchQueue[Item],
        counts: Counts,
        predict: Predict,
        *,
        precision: PrecisionConfig,
        deaths: Deaths,
        filters: Sequence[AnswerFilter] = (),
        observers: Sequence[BatchObserver] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The engine calls its own observers first, then `observers`, in their order."""
        self._live: LiveVersions = {}
        self._activating = threading.Lock()
        self._queue = queue
        self._clock = clock
        self._filters = tuple(filters)
        self._rate = EventRate()
        self._watchdog = Watchdog(clock)
        self._stalls = SwapStalls()
        self.level = ServiceLevel(clock=clock)
        own = (self._rate, self._watchdog, self._stalls, self.level, AnswerCounts(counts))
        self._observers = Observers((*own, *observers))
        self._answering = BatchAnswerer(
            queue, counts, predict, precision=precision, watchdog=self._watchdog, deaths=deaths
        )
        self._thread = BackgroundThread(self._run, name="engine")

    def start(self) -> None:
        self._thread.start()

    @property
    def live(self) -> ActiveVersions | None:
        """The default task's versions for the next batch; None before the first weights. Any thread may read it."""
        return self.live_versions(DEFAULT)

    def live_versions(self, task: str) -> ActiveVersions | None:
        """Returns the task's versions for the next batch; None before the first weights. Any thread may call it."""
        return self._live.get(task)

    def activate(self, versions: ActiveVersions, task: str = DEFAULT) -> int:
        """Makes `versions` live: the next batch runs under them. Any thread may call it.

        Returns the number of swaps so far, which `await_batch` takes.
        """
        with self._activating:
            self._live = {**self._live, task: versions}
            return count_swaps(self._live)

    @property
    def choice(self) -> PrecisionChoice:
        """The precisions of the last batch. Any thread may read it."""
        return self._answering.choice

    @property
    def swap_stalls(self) -> StallReport:
        """The stalls of the last swaps. Any thread may read it."""
        return self._stalls.report

    def await_batch(self, number: int, timeout_s: float = BATCH_WITHIN_S) -> bool:
        """Waits until a batch has begun under swap `number` or a later one. Returns False after `timeout_s` seconds."""
        return self._stalls.await_number(number, timeout_s)

    def await_next_batch(self, timeout_s: float = BATCH_WITHIN_S) -> bool:
        """Waits until one more batch has begun, under any versions. Returns False after `timeout_s` seconds."""
        return self._stalls.await_next(timeout_s)

    def check(self, *, batch_timeout_s: float) -> None:
        """Raises Unhealthy if the thread has ended or hangs (see `Watchdog`)."""
        self._thread.check(Unhealthy)
        self._watchdog.check(batch_timeout_s)

    def join(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` seconds for the thread to end. The thread ends after the queue is closed."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Answers until the queue is closed.

        consumes: Batch from the queue
        produces: Answer, ItemFailure or Unanswered, to the `done` of each item
        waits for: a batch
        unblocked by: a text, or close of the queue
        """
        while (batch := self._queue.take()) is not None:
            # One read: the whole batch is answered under one plan and one set of versions of each task.
            live = self._live
            began_s = self._clock()
            self._observers.batch_began(batch, live, began_s)
            # Under load, a smaller share of the events goes through the encoders of all arms. If another full batch
            # waits, this batch does only the work that its own answers need.
            sheds_extras = self._queue.has_full_batch
            if sheds_extras or self._rate.per_s > PAIRED_PER_S:
                share = min(1.0, PAIRED_PER_S / self._rate.per_s)
                live = {
                    task: replace(versions, paired_share=share, sheds_extras=sheds_extras)
                    for task, versions in live.items()
                }
            outcomes = self._answering.outcomes(batch.items, live)
            if self._filters:
                outcomes = apply_filters(self._filters, batch, outcomes, began_s=began_s, ended_s=self._clock())
            for item, outcome in zip(batch.items, outcomes, strict=True):
                item.done(outcome)
            self._observers.batch_ended(batch, live, outcomes, self._clock())
            # Drop the reference now: otherwise replaced weights would stay in memory until the next batch comes.
            del live


MACHINE_FAULTS = (MemoryError, OSError, torch.OutOfMemoryError)
"""Errors for which an event is never to blame, even if other events can be answered."""

KILLS = "kills_the_process"
KILLS_DETAIL = "processes were killed while they read or answered this event; the last time, no other event was open"

log = structlog.get_logger("engine")


class BatchAnswerer:
    """Answers batches, and finds the cause if a forward pass raises an exception. Only the model's thread calls its
    methods.

    `choice` has the precisions of the last batch; any thread may read it.
    """

    def __init__(
        self,
        queue: BatchQueue[Item],
        counts: Counts,
        predict: Predict,
        *,
        precision: PrecisionConfig,
        watchdog: Watchdog,
        deaths: Deaths,
    ) -> None:
        self.choice = NO_CHOICE
        self._queue = queue
        self._counts = counts
        self._predict = predict
        self._precision = precision
        self._watchdog = watchdog
        self._deaths = deaths
        self._last_answered: Item | None = None

    def outcomes(self, items: Sequence[Item], live: LiveVersions) -> list[Outcome]:
        """Returns an outcome for each item of a batch."""
        if DEFAULT not in live:
            return [self._failure(item, "no_weights") for item in items]
        choice = choose_precisions(
            all_versions(live),
            num_tokens=sum(item.num_tokens for item in items),
            load=self._queue.load,
            previous=self.choice,
            config=self._precision,
        )
        if choice.is_brown_out != self.choice.is_brown_out:
            self._note_brown_out(choice)
        self.choice = choice
        outcomes: dict[int, Outcome] = {}
        # Items without a known death are tried together, each item with one death alone, and no others.
        for trial in self._deaths.groups([item.digest for item in items]):
            trial_items = [items[row] for row in trial]
            # A forward pass takes items with equal options only.
            options: list[tuple[int, bool, str, str]] = []
            for item in trial_items:
                no_weights = _no_weights_reason(item, live) if item.event.tasks else ""
                options.append((item.item_options.version, item.item_options.is_embedding, item.unreadable, no_weights))
            with self._deaths.open([item.digest for item in trial_items], clears=True):
                for rows in group_rows(options):
                    no_weights = options[rows[0]][-1]
                    group_outcomes = self._group_outcomes([trial_items[row] for row in rows], no_weights, live)
                    outcomes |= zip([trial[row] for row in rows], group_outcomes, strict=True)
        return [outcomes.get(row) or self._failure(item, KILLS, KILLS_DETAIL) for row, item in enumerate(items)]

    def _group_outcomes(self, items: Sequence[Item], no_weights: str, live: LiveVersions) -> list[Outcome]:
        """Returns the outcomes of items with identical options, in order.

        If the items name a version, that version of the default task answers them, whatever the plan says.
        `no_weights` is the reason why a task that the items ask for cannot answer; "" if all of them can.
        """
        if items[0].unreadable:
            return [self._failure(item, "unreadable", item.unreadable) for item in items]
        if no_weights:
            return [self._failure(item, "no_weights", no_weights) for item in items]
        if version := items[0].item_options.version:
            arm = live[DEFAULT].arm_for_version(version)
            if arm is None:
                return [self._failure(item, "version_gone") for item in items]
            live = {DEFAULT: live[DEFAULT].with_only(arm)}
        return self._outcomes_with_retry(items, live)

    def _note_brown_out(self, choice: PrecisionChoice) -> None:
        """Updates two counters: `brown_outs` counts brown-outs, and `browning_out` is 1 while one lasts."""
        self._counts.add("browning_out", 1 if choice.is_brown_out else -1)
        self._counts.add("brown_outs", int(choice.is_brown_out))
        log.warning("brown_out" if choice.is_brown_out else "brown_out_ended", precisions=choice.by_version)

    def _outcomes_with_retry(self, items: Sequence[Item], live: LiveVersions) -> list[Outcome]:
        """Returns an outcome for each item. If the forward pass raises an exception, each item is tried once more,
        alone."""
        answers = self._try_answer(items, live)
        if isinstance(answers, Exception):
            if len(items) == 1:
                return [self._failed_alone(items[0], answers, live)]
            log.warning("batch_failed", items=len(items), error=str(answers))
            outcomes: list[Outcome] = []
            for item in items:
                outcomes += self._outcomes_with_retry([item], live)
            return outcomes
        self._last_answered = items[-1]
        return list(answers)

    def _try_answer(self, items: Sequence[Item], live: LiveVersions) -> Sequence[Answer | EmbeddedText] | Exception:
        """Returns the answers of items with equal options, or the error that the forward pass raises."""
        events = [item.event for item in items]
        token_ids = [item.token_ids for item in items]
        try:
            if items[0].item_options.is_embedding:
                return embed_many(token_ids, live[DEFAULT])
            return predict_by_task(self._predict, events, token_ids, live, self.choice)
        except Exception as error:  # noqa: BLE001  # any error of a forward pass becomes an outcome
            return error

    def _failed_alone(self, item: Item, error: Exception, live: LiveVersions) -> Outcome:
        """Returns the outcome of an item whose forward pass raised `error` although it was alone in the batch.

        It is the stable versions' answer if they can answer the item.
        """
        if isinstance(error, UnreadableInput):
            return self._failure(item, "unreadable", str(error))
        if not isinstance(error, MACHINE_FAULTS) and any(len(active.plan.arms) > 1 for active in live.values()):
            stable = {task: active.with_only(active.plan.arms[0]) for task, active in live.items()}
            answers = self._try_answer([item], stable)
            if not isinstance(answers, Exception):
                self._count_failing_versions(item, live, stable)
                return answers[0]
        if isinstance(error, MACHINE_FAULTS) or self._is_machine_fault(item, live):
            self._counts.add("machine_faults")
            # One log line for consecutive faults.
            if not self._watchdog.has_fault:
                log.error("machine_fault", event_id=quote_text(item.event.id), error=str(error), exc_info=error)
            return Unanswered(item=item)
        log.error("model_failed", event_id=quote_text(item.event.id), error=str(error), exc_info=error)
        return self._failure(item, "model_failed")

    def _count_failing_versions(self, item: Item, live: LiveVersions, stable: LiveVersions) -> None:
        """Tries an item with each version that is not stable, and counts the versions that fail. The stable versions
        can answer it."""
        self._counts.add("answered_by_stable")
        event_id = quote_text(item.event.id)
        for task, versions in live.items():
            for arm in versions.plan.arms[1:]:
                error = self._try_answer([item], {**stable, task: versions.with_only(arm)})
                if isinstance(error, Exception):
                    versions.health.count_failure(arm.version)
                    log.warning("version_failed", task=task, version=arm.version, event_id=event_id, error=str(error))

    def _is_machine_fault(self, item: Item, live: LiveVersions) -> bool:
        """Whether the machine is to blame for the failure of `item`.

        As a control, the event that was answered last is tried again, with the arm and the tasks of `item`. If it fails
        now, too, the machine is to blame.
        """
        last = self._last_answered
        if last is None:
            return False
        # The id, key and tasks of `item` route the other event to the same arm and tasks.
        control = msgspec.structs.replace(last.event, id=item.event.id, key=item.event.key, tasks=item.event.tasks)
        answers = self._try_answer([Item(event=control, token_ids=last.token_ids, done=last.done)], live)
        return isinstance(answers, Exception)

    def _failure(self, item: Item, reason: str, detail: str = "") -> ItemFailure:
        self._counts.add(reason)
        return ItemFailure(event=item.event, reason=reason, detail=detail)


def _no_weights_reason(item: Item, live: LiveVersions) -> str:
    """Returns the reason why a task that the event names cannot answer it; "" if all of them can."""
    missing = [task for task in item.event.tasks if task not in live]
    return f"the task {missing[0]!r} has no weights yet: does its learner run?" if missing else ""
