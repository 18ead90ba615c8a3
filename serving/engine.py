"""The model's thread: batch -> one read of `live` -> forward -> answers, each delivered to its caller.

    BatchQueue --take--> items --choose--> precisions --predict--> Answer --item.done--> Kafka, HTTP

A swap of weights is one assignment, by `Engine.activate`, which the swap's thread calls at any time. A batch reads
`live` once, so it runs under one plan, and every answer names the version that gave it. Nothing else is shared with the
swap. The cost of a swap is measured, not assumed (`serving/swap_stalls.py`).

Rejected: a lock around the model (a swap would wait for a batch), and writing into live weights (a batch could see half
of them).

When a forward raises, the cause is one event of the batch, a version, or the machine. So each event is tried by itself,
and one that fails alone by the stable version: where that answers, the versions that cannot are counted
(`serving/weights/health.py`), and the rollout withdraws them. Where it cannot, the text that was answered last is tried
under the same arm: where that fails, too, or memory ran out, the event is not to blame. It is left `Unanswered`, to be
tried again. Continued machine faults make the replica unhealthy.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import structlog
import torch

from serving.answer_traces import traced
from serving.batcher import BatchQueue, Item, ItemFailure, Outcome, Unanswered
from serving.counts import Counts
from serving.embedding import embed_many
from serving.engine_config import PrecisionConfig
from serving.errors import Unhealthy
from serving.event_rate import EventRate
from serving.predict import PAIRED_PER_S, Predict, grouped
from serving.service_level import ServiceLevel
from serving.swap_stalls import StallReport, SwapStalls
from serving.terms import EmbeddedText
from serving.watchdog import Watchdog
from serving.weights.active import ActiveVersions
from serving.weights.precision import NO_CHOICE, Choice, choose
from wire.message import shown
from wire.records import Answer
from wire.threads import BackgroundThread

MACHINE_FAULTS = (MemoryError, OSError, torch.OutOfMemoryError)
"""Errors that are never an event's fault, even where other events can be answered."""

log = structlog.get_logger("engine")


class Engine:
    """Answers queued items, under the versions that were activated last, until the queue is closed and empty."""

    def __init__(
        self,
        queue: BatchQueue[Item],
        counts: Counts,
        predict: Predict,
        *,
        precision: PrecisionConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live: ActiveVersions | None = None
        self._queue = queue
        self._counts = counts
        self._predict = predict
        self._precision = precision
        self._choice = NO_CHOICE
        self._last_answered: Item | None = None
        self._clock = clock
        self._watchdog = Watchdog(clock)
        self._stalls = SwapStalls()
        self._rate = EventRate()
        self.level = ServiceLevel(clock=clock)
        self._thread = BackgroundThread(self._run, name="engine")

    def start(self) -> None:
        self._thread.start()

    @property
    def live(self) -> ActiveVersions | None:
        """The versions under which the next batch runs; None before the first weights. Any thread may ask."""
        return self._live

    def activate(self, versions: ActiveVersions) -> None:
        """Makes `versions` live: the next batch runs under them. Any thread may call it."""
        self._live = versions

    @property
    def choice(self) -> Choice:
        """The precisions of the last batch. Any thread may ask."""
        return self._choice

    @property
    def swap_stalls(self) -> StallReport:
        """The stalls of the last swaps. Any thread may ask."""
        return self._stalls.report

    def await_batch(self, number: int, timeout_s: float) -> bool:
        """Waits until a batch has begun under the versions `number`, or later ones. Returns False after `timeout_s`."""
        return self._stalls.await_number(number, timeout_s)

    def await_next_batch(self, timeout_s: float) -> bool:
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
            if live is not None:
                share = min(1.0, PAIRED_PER_S / self._rate.per_s)
                live = replace(live, paired_share=share, is_lean=self._queue.has_full_batch)
            self._watchdog.batch_begins(sum(item.num_tokens for item in batch.items))
            self._stalls.batch_begins(live.number if live else None, ready_s=batch.ready_s, now_s=now_s)
            outcomes = traced(batch, self._answer(batch.items, live), began_s=now_s, ended_s=self._clock())
            self._watchdog.record(is_fault=any(isinstance(outcome, Unanswered) for outcome in outcomes))
            for item, outcome in zip(batch.items, outcomes, strict=True):
                item.done(outcome)
            ended_s = self._clock()
            self._stalls.batch_ends(ended_s)
            self.level.add(batch, began_s=now_s, ended_s=ended_s)
            self._watchdog.batch_ends()
            del live  # the old weights are freed with their last batch, not when the next one comes

    def _answer(self, items: Sequence[Item], live: ActiveVersions | None) -> list[Outcome]:
        if live is None:
            return [self._failure(item, "no_weights") for item in items]
        num_tokens = sum(item.num_tokens for item in items)
        choice = choose(
            live.versions,
            num_tokens=num_tokens,
            load=self._queue.load,
            previous=self._choice,
            config=self._precision,
        )
        self._record_choice(choice)
        outcomes: dict[int, Outcome] = {}
        for rows in grouped([(item.terms.task, bool(item.unreadable)) for item in items]):
            outcomes |= zip(rows, self._on_terms([items[row] for row in rows], live), strict=True)
        return [outcomes[row] for row in range(len(items))]

    def _on_terms(self, items: Sequence[Item], live: ActiveVersions) -> list[Outcome]:
        """Returns the outcomes of items that ask for the same, of the version that they name where they name one."""
        if items[0].unreadable:
            return [self._failure(item, "unreadable", item.unreadable) for item in items]
        version = items[0].terms.version
        arm = live.arm_of(version)
        if version and arm is None:
            return [self._failure(item, "version_gone") for item in items]
        return self._outcomes(items, live.alone(arm) if arm else live)

    def _record_choice(self, choice: Choice) -> None:
        """Keeps the choice. `brown_outs` counts how often a brown-out began; `browning_out` is 1 while one lasts."""
        if choice.is_brown_out != self._choice.is_brown_out:
            self._counts.add("browning_out", 1 if choice.is_brown_out else -1)
            self._counts.add("brown_outs", int(choice.is_brown_out))
            log.warning("brown_out" if choice.is_brown_out else "brown_out_ended", precisions=choice.by_version)
        self._choice = choice

    def _outcomes(self, items: Sequence[Item], live: ActiveVersions) -> list[Outcome]:
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
        given = [(answer.arm, answer.precision) for answer in answers if isinstance(answer, Answer)]
        for (arm, precision), num in Counter(given).items():
            self._counts.add(f"answers_{precision}", num)
            self._counts.add(f"answers_by_{arm}_{precision}", num)
        for version, num in Counter(answer.weights_version for answer in answers).items():
            live.health.answered(version, num)
        return list(answers)

    def _answers(self, items: Sequence[Item], live: ActiveVersions) -> Sequence[Answer | EmbeddedText] | Exception:
        events = [item.event for item in items]
        token_ids = [item.token_ids for item in items]
        try:
            if items[0].terms.is_embedding:
                return embed_many(token_ids, live)
            return self._predict(events, token_ids, live, self._choice.by_version)
        except Exception as error:  # noqa: BLE001  # any error of a forward becomes an outcome
            return error

    def _outcome_of_failure(self, item: Item, error: Exception, live: ActiveVersions) -> Outcome:
        """Returns the outcome of an item that fails alone: what the stable version answers, where others failed."""
        if not isinstance(error, MACHINE_FAULTS) and len(live.plan.arms) > 1:
            answers = self._answers([item], live.alone(live.plan.arms[0]))
            if not isinstance(answers, Exception):
                live.health.answered(answers[0].weights_version, 1)
                self._count_failures(item, live)
                return answers[0]
        if isinstance(error, MACHINE_FAULTS) or self._fails_for_all(item, live):
            self._counts.add("machine_faults")
            if not self._watchdog.has_fault:  # logged once for all faults in a row
                log.error("machine_fault", event_id=shown(item.event.id), error=str(error), exc_info=error)
            return Unanswered(item=item)
        log.error("model_failed", event_id=shown(item.event.id), error=str(error), exc_info=error)
        return self._failure(item, "model_failed")

    def _count_failures(self, item: Item, live: ActiveVersions) -> None:
        """Counts for each version but the stable one, which can answer the item, whether it cannot."""
        self._counts.add("answered_by_stable")
        for arm in live.plan.arms[1:]:
            answers = self._answers([item], live.alone(arm))
            if isinstance(answers, Exception):
                live.health.failed(arm.version)
                log.warning("version_failed", version=arm.version, event_id=shown(item.event.id), error=str(answers))

    def _fails_for_all(self, item: Item, live: ActiveVersions) -> bool:
        """Whether the text that was answered last cannot be answered now, under the arm of `item`."""
        last = self._last_answered
        if last is None:
            return False
        control = msgspec.structs.replace(last.event, id=item.event.id, key=item.event.key)
        answers = self._answers([Item(event=control, token_ids=last.token_ids, done=last.done)], live)
        return isinstance(answers, Exception)

    def _failure(self, item: Item, reason: str, detail: str = "") -> ItemFailure:
        self._counts.add(reason)
        return ItemFailure(event=item.event, reason=reason, detail=detail)
