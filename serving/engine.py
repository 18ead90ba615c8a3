"""The model's thread: batch -> one read of `live` -> forward -> answers, each delivered to its caller.

    BatchQueue --take--> items --choose--> precisions --predict, by task--> Answer --item.done--> Kafka, HTTP
                                                       '--fails--> each item alone: an event, a version, or the machine?

A swap of weights is one assignment, by `Engine.activate`, which the swap of each task calls at any time. A batch reads
what is live once, so each task answers it under one plan, and every answer names the version that gave it. Nothing else
is shared with the swaps. The cost of a swap is measured, not assumed (`SwapStalls`).

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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import structlog
import torch

from serving.answer_traces import traced
from serving.config import PrecisionConfig
from serving.deaths import Deaths
from serving.errors import Unhealthy
from serving.models import NO_CHOICE, ActiveVersions, Choice, Live, choose, versions_of
from serving.observers import Counts, EventRate, ServiceLevel, StallReport, SwapStalls, Watchdog, count_of
from serving.predict import PAIRED_PER_S, Predict, by_task, embed_many, grouped, predict_by_task
from serving.queue import BatchQueue, EmbeddedText, Item, ItemFailure, Outcome, Unanswered
from wire.message import shown
from wire.records import Answer, TaskAnswer
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
        self._record_choice(choice)
        outcomes: dict[int, Outcome] = {}
        for together in self._deaths.groups([item.digest for item in items]):
            tried = [items[row] for row in together]
            digests = [item.digest for item in tried]
            with self._deaths.open(digests):
                for rows in grouped([(item.terms.wish, item.unreadable, _missing(item, live)) for item in tried]):
                    found = self._on_terms([tried[row] for row in rows], live)
                    outcomes |= zip([together[row] for row in rows], found, strict=True)
            self._deaths.clear(digests)
        return [outcomes.get(row) or self._failure(item, KILLS, KILLS_DETAIL) for row, item in enumerate(items)]

    def _on_terms(self, items: Sequence[Item], live: Live) -> list[Outcome]:
        """Returns the outcomes of items that ask for the same, of the version that they name where they name one, which
        is of the default task."""
        if items[0].unreadable:
            return [self._failure(item, "unreadable", item.unreadable) for item in items]
        if missing := _missing(items[0], live):
            return [self._failure(item, "no_weights", missing) for item in items]
        version = items[0].terms.version
        arm = live[DEFAULT].arm_of(version)
        if version and arm is None:
            return [self._failure(item, "version_gone") for item in items]
        return self._outcomes(items, {DEFAULT: live[DEFAULT].alone(arm)} if arm else live)

    def _record_choice(self, choice: Choice) -> None:
        """Keeps the choice. `brown_outs` counts how often a brown-out began; `browning_out` is 1 while one lasts."""
        if choice.is_brown_out != self.choice.is_brown_out:
            self._counts.add("browning_out", 1 if choice.is_brown_out else -1)
            self._counts.add("brown_outs", int(choice.is_brown_out))
            log.warning("brown_out" if choice.is_brown_out else "brown_out_ended", precisions=choice.by_version)
        self.choice = choice

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
        self._counts.add("batches")
        self._counts.add("embeddings" if items[0].terms.is_embedding else "answers", len(answers))
        self._count_answers(answers, live)
        return list(answers)

    def _count_answers(self, answers: Sequence[Answer | EmbeddedText], live: Live) -> None:
        given: Counter[tuple[str, str, str]] = Counter()
        for answer in answers:
            for task, each in by_task(answer):
                live[task].health.answered(each.weights_version, 1)
                if isinstance(each, TaskAnswer):
                    given[task, each.arm, each.precision] += 1
        for (task, arm, precision), num in given.items():
            self._counts.add(count_of(task, f"answers_{precision}"), num)
            self._counts.add(count_of(task, f"answers_by_{arm}_{precision}"), num)

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
        if not isinstance(error, MACHINE_FAULTS) and any(len(each.plan.arms) > 1 for each in live.values()):
            stable = {task: each.alone(each.plan.arms[0]) for task, each in live.items()}
            answers = self._answers([item], stable)
            if not isinstance(answers, Exception):
                (answer,) = answers
                for task, each in by_task(answer):
                    live[task].health.answered(each.weights_version, 1)
                self._count_failures(item, live, stable)
                return answer
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
