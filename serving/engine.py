"""The model's thread: batch -> one read of `live` -> forward -> answers, each delivered to its caller.

    BatchQueue --take--> items --choose--> precisions --predict, by task--> Answer --filters, item.done--> Kafka, HTTP
        '--began, ended--> observers                   '--fails--> each item alone: an event, a version, or the machine?

A swap of weights is one assignment, by `Engine.activate`, which the swap of each task calls at any time. A batch reads
what is live once, so each task answers it under one plan, and every answer names the version that gave it. Nothing else
is shared with the swaps. What is measured of a batch, such as the cost of a swap, is the observers' (`observers.py`);
what is off has no observer and no filter.

When a forward raises, the cause is one event of the batch, a version, or the machine. So each event is tried by itself,
and one that fails alone by the stable version: if that answers, the versions that cannot are counted (`Health`), and
the rollout withdraws them. If it cannot, the text that was answered last is tried under the same arm: if that fails,
too, or memory ran out, the event is not to blame. It is left `Unanswered`, to be tried again. Continued machine faults
make the replica unhealthy. Events that were open when a process was killed are answered alone, and refused when that
killed another one (`serving/deaths.py`).

Rejected: a lock around the model (a swap would wait for a batch), writing into live weights (a batch could see half of
them), and one failure for a whole batch (one event that no version can answer would keep all beside it from an answer).
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
from serving.filters import AnswerFilter, filtered
from serving.models import NO_CHOICE, ActiveVersions, Choice, Live, choose, number_of, versions_of
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
from serving.predict import PAIRED_PER_S, Predict, embed_many, grouped, predict_by_task
from serving.queue import BatchQueue, EmbeddedText, Item, ItemFailure, Outcome, Unanswered
from wire.message import shown
from wire.records import Answer
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
        filters: Sequence[AnswerFilter] = (),
        observers: Sequence[BatchObserver] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`observers` are told after the engine's own ones."""
        self._live: Live = {}
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
        self._answering = Answering(queue, counts, predict, precision=precision, watchdog=self._watchdog, deaths=deaths)
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
            return number_of(self._live)

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
        """Raises Unhealthy where the thread has ended, or has hung: see `Watchdog`."""
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
            # Read once: the whole batch is answered under one plan and one set of versions of each task.
            live = self._live
            began_s = self._clock()
            self._observers.batch_began(batch, live, began_s)
            # Under load, fewer events go through the encoders of all arms, and a batch before a full one is lean.
            is_lean = self._queue.has_full_batch
            if is_lean or self._rate.per_s > PAIRED_PER_S:
                share = min(1.0, PAIRED_PER_S / self._rate.per_s)
                live = {task: replace(each, paired_share=share, is_lean=is_lean) for task, each in live.items()}
            outcomes = self._answering.outcomes(batch.items, live)
            if self._filters:
                outcomes = filtered(self._filters, batch, outcomes, began_s=began_s, ended_s=self._clock())
            for item, outcome in zip(batch.items, outcomes, strict=True):
                item.done(outcome)
            self._observers.batch_ended(batch, live, outcomes, self._clock())
            # The old weights are freed with their last batch, not when the next one comes.
            del live


MACHINE_FAULTS = (MemoryError, OSError, torch.OutOfMemoryError)
"""Errors that are never an event's fault, even where other events can be answered."""

KILLS = "kills_the_process"
KILLS_DETAIL = "processes were killed while they read or answered this event, the last one while no other was open"

log = structlog.get_logger("engine")


class Answering:
    """Answers the items of one batch after another. It belongs to the model's thread; any thread may read `choice`, the
    precisions of the last batch."""

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

    def outcomes(self, items: Sequence[Item], live: Live) -> list[Outcome]:
        """Returns an outcome for each item of a batch."""
        if DEFAULT not in live:
            return [self._failure(item, "no_weights") for item in items]
        choice = choose(
            versions_of(live),
            num_tokens=sum(item.num_tokens for item in items),
            load=self._queue.load,
            previous=self.choice,
            config=self._precision,
        )
        if choice.is_brown_out != self.choice.is_brown_out:
            self._note_brown_out(choice)
        self.choice = choice
        outcomes: dict[int, Outcome] = {}
        for together in self._deaths.groups([item.digest for item in items]):
            tried = [items[row] for row in together]
            # Items are answered together if they ask for the same.
            asked: list[tuple[int, bool, str, str]] = []
            for item in tried:
                missing = _missing(item, live) if item.event.tasks else ""
                asked.append((item.terms.version, item.terms.is_embedding, item.unreadable, missing))
            with self._deaths.open([item.digest for item in tried], clears=True):
                for rows in grouped(asked):
                    found = self._on_terms([tried[row] for row in rows], asked[rows[0]][-1], live)
                    outcomes |= zip([together[row] for row in rows], found, strict=True)
        return [outcomes.get(row) or self._failure(item, KILLS, KILLS_DETAIL) for row, item in enumerate(items)]

    def _on_terms(self, items: Sequence[Item], missing: str, live: Live) -> list[Outcome]:
        """Returns the outcomes of items that ask for the same, of the version that they name where they name one, which
        is of the default task. `missing` says why no task of theirs can answer ("": all can)."""
        if items[0].unreadable:
            return [self._failure(item, "unreadable", item.unreadable) for item in items]
        if missing:
            return [self._failure(item, "no_weights", missing) for item in items]
        if version := items[0].terms.version:
            arm = live[DEFAULT].arm_of(version)
            if arm is None:
                return [self._failure(item, "version_gone") for item in items]
            live = {DEFAULT: live[DEFAULT].alone(arm)}
        return self._outcomes(items, live)

    def _note_brown_out(self, choice: Choice) -> None:
        """Counts how often a brown-out began (`brown_outs`), and whether one lasts (`browning_out` is 1)."""
        self._counts.add("browning_out", 1 if choice.is_brown_out else -1)
        self._counts.add("brown_outs", int(choice.is_brown_out))
        log.warning("brown_out" if choice.is_brown_out else "brown_out_ended", precisions=choice.by_version)

    def _outcomes(self, items: Sequence[Item], live: Live) -> list[Outcome]:
        """Returns an outcome for each item. Where a forward raises, each item is tried once by itself."""
        answers = self._answers(items, live)
        if isinstance(answers, Exception):
            if len(items) == 1:
                return [self._outcome_of_failure(items[0], answers, live)]
            log.warning("batch_failed", items=len(items), error=str(answers))
            outcomes: list[Outcome] = []
            for item in items:
                outcomes += self._outcomes([item], live)
            return outcomes
        self._last_answered = items[-1]
        return list(answers)

    def _answers(self, items: Sequence[Item], live: Live) -> Sequence[Answer | EmbeddedText] | Exception:
        events = [item.event for item in items]
        token_ids = [item.token_ids for item in items]
        try:
            if items[0].terms.is_embedding:
                return embed_many(token_ids, live[DEFAULT])
            return predict_by_task(self._predict, events, token_ids, live, self.choice)
        except Exception as error:  # noqa: BLE001  # any error of a forward becomes an outcome
            return error

    def _outcome_of_failure(self, item: Item, error: Exception, live: Live) -> Outcome:
        """Returns the outcome of an item that fails alone: what the stable versions answer, where others failed."""
        if isinstance(error, UnreadableInput):
            return self._failure(item, "unreadable", str(error))
        if not isinstance(error, MACHINE_FAULTS) and any(len(each.plan.arms) > 1 for each in live.values()):
            stable = {task: each.alone(each.plan.arms[0]) for task, each in live.items()}
            answers = self._answers([item], stable)
            if not isinstance(answers, Exception):
                self._count_failures(item, live, stable)
                return answers[0]
        if isinstance(error, MACHINE_FAULTS) or self._fails_for_all(item, live):
            self._counts.add("machine_faults")
            if not self._watchdog.has_fault:  # logged once for all faults in a row
                log.error("machine_fault", event_id=shown(item.event.id), error=str(error), exc_info=error)
            return Unanswered(item=item)
        log.error("model_failed", event_id=shown(item.event.id), error=str(error), exc_info=error)
        return self._failure(item, "model_failed")

    def _count_failures(self, item: Item, live: Live, stable: Live) -> None:
        """Counts for each version but the stable ones, which can answer the item, whether it cannot."""
        self._counts.add("answered_by_stable")
        event_id = shown(item.event.id)
        for task, versions in live.items():
            for arm in versions.plan.arms[1:]:
                error = self._answers([item], {**stable, task: versions.alone(arm)})
                if isinstance(error, Exception):
                    versions.health.failed(arm.version)
                    log.warning("version_failed", task=task, version=arm.version, event_id=event_id, error=str(error))

    def _fails_for_all(self, item: Item, live: Live) -> bool:
        """Whether the text that was answered last cannot be answered now, under the arm of `item`."""
        last = self._last_answered
        if last is None:
            return False
        control = msgspec.structs.replace(last.event, id=item.event.id, key=item.event.key, tasks=item.event.tasks)
        answers = self._answers([Item(event=control, token_ids=last.token_ids, done=last.done)], live)
        return isinstance(answers, Exception)

    def _failure(self, item: Item, reason: str, detail: str = "") -> ItemFailure:
        self._counts.add(reason)
        return ItemFailure(event=item.event, reason=reason, detail=detail)


def _missing(item: Item, live: Live) -> str:
    """Returns why an event that asks certain tasks cannot be answered by all of them; "" where it can."""
    missing = [task for task in item.event.tasks if task not in live]
    return f"the task {missing[0]!r} has no weights yet: does its learner run?" if missing else ""
