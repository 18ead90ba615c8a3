"""The model's thread: batch -> one read of `live` -> forward -> answers, each delivered to whoever asked.

    BatchQueue --take--> items --choose--> precisions --predict_many--> Answer --item.done--> Kafka, HTTP

A flip is an assignment to `Engine.live`, made by the swap's thread whenever it likes. A batch reads it once, so it runs
under one plan, and every answer names the version that gave it. Nothing else is shared with the swap.

What a flip costs is measured and not assumed: its stall is how long work was ready and the model idle before the first
batch after it, from the end of the batch before, or from when the new batch was ready where that is later, to the start
of its forward. Whatever the flip causes lies in there (waiting for the interpreter while the swap prepares, freeing the
old weights), but also what every pause has: so the pause before the last batch without a flip is kept beside it. A flip
that no batch waited for has a stall and a pause of 0.

Rejected: a lock around the model (a swap would wait for a batch), and writing into live weights (a batch could see
half of them).

When a forward raises, somebody is at fault: one event of the batch, or the machine and the weights. Each event is tried
by itself; for one that fails alone, the text that was answered last is tried under the same arm. Where that fails, too,
or memory ran out, the event is as good as any: it is left `Unanswered`, to come again. Faults that go on make the
replica unhealthy.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import structlog
import torch

from serving.batcher import BatchQueue
from serving.config import PrecisionConfig
from serving.counts import Counts
from serving.errors import Unhealthy
from serving.item import Item, ItemFailure, Outcome, Unanswered
from serving.predict import predict_many
from serving.weights.active import ActiveVersions
from serving.weights.precision import NO_CHOICE, Choice, choose
from wire.envelope import shown
from wire.receipts import Receipts
from wire.records import Answer

NUM_STALLS = 64
"""Swaps whose stalls are kept; a report is made far more often."""

MACHINE_FAULTS = (MemoryError, OSError, torch.OutOfMemoryError)
"""What no event is at fault of, whatever else can be answered."""

log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True)
class SwapStalls:
    """How many there were before the last batch; of the last of them, oldest first, the stalls in ms, and beside each
    the pause before the last batch without a flip."""

    num: int
    stalls_ms: tuple[float, ...]
    pauses_ms: tuple[float, ...]


class Engine:
    """Answers what is in the queue until the queue is closed and empty.

    `live` may be assigned from any thread; `seen_number` is the number of the one under which a batch last began.
    """

    def __init__(
        self,
        queue: BatchQueue[Item],
        counts: Counts,
        *,
        top_scores: int,
        precision: PrecisionConfig,
        receipts: Receipts,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live: ActiveVersions | None = None
        self._queue = queue
        self._counts = counts
        self._top_scores = top_scores
        self._precision = precision
        self._receipts = receipts
        self._choice = NO_CHOICE
        self._last_answered: Item | None = None
        self._faults_s: tuple[float, float] | None = None  # the first and the last of those in a row
        self._now_ms = now_ms
        self._clock = clock
        self.seen_number = 0
        self._ended_s = 0.0
        self._busy_since_s: float | None = None
        self._pause_ms = 0.0
        self._num_flips = 0
        self._flips: deque[tuple[float, float]] = deque(maxlen=NUM_STALLS)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def flips(self) -> SwapStalls:
        stalls_ms, pauses_ms = zip(*self._flips, strict=True) if self._flips else ((), ())
        return SwapStalls(self._num_flips, stalls_ms, pauses_ms)

    def check(self, *, batch_timeout_s: float) -> None:
        """Raises Unhealthy where the thread has ended, or where for more than `batch_timeout_s` seconds one batch is
        computed, or every batch has failed by a fault of the machine."""
        if not self._thread.is_alive():
            raise Unhealthy("the engine has ended")
        since_s = self._busy_since_s
        if since_s is not None and self._clock() - since_s > batch_timeout_s:
            raise Unhealthy(f"one batch has taken more than {batch_timeout_s:g} s")
        first_s, last_s = self._faults_s or (0.0, 0.0)
        if last_s - first_s > batch_timeout_s:
            raise Unhealthy(f"the model has failed for more than {batch_timeout_s:g} s")

    def join(self, timeout_s: float) -> None:
        """Waits for the end, which `close` of the queue brings."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Answers until the queue is closed.

        consumes: Batch from the queue
        produces: Answer, ItemFailure or Unanswered, to the `done` of each item
        waits for: a batch
        unblocked by: a text, or close of the queue
        """
        while (batch := self._queue.take()) is not None:
            live = self.live
            self._begin(live, batch.ready_s)
            items = self._wanted(batch.items)
            outcomes = self._answer(items, live)
            self._note_faults(outcomes)
            for item, outcome in zip(items, outcomes, strict=True):
                item.done(outcome)
            self._ended_s = self._clock()
            self._busy_since_s = None
            del live  # an old set of weights goes with its last batch, not when the next one comes

    def _begin(self, live: ActiveVersions | None, ready_s: float) -> None:
        now_s = self._busy_since_s = self._clock()
        pause_ms = 1e3 * max(0.0, now_s - max(self._ended_s, ready_s))
        if live is None or live.number == self.seen_number:
            self._pause_ms = pause_ms
            return
        flips = [(0.0, 0.0)] * (live.number - self.seen_number - 1)  # nobody waited for those before the last
        if self.seen_number:  # the first weights of all replaced nothing
            flips.append((pause_ms, self._pause_ms))
        self._flips.extend(flips)
        self._num_flips += len(flips)
        self.seen_number = live.number

    def _wanted(self, items: Sequence[Item]) -> list[Item]:
        """Without those whose client has hung up or lost its patience."""
        wanted = [item for item in items if item.is_wanted()]
        if len(wanted) < len(items):
            self._counts.add("abandoned", len(items) - len(wanted))
        return wanted

    def _answer(self, items: Sequence[Item], live: ActiveVersions | None) -> list[Outcome]:
        if not items:
            return []
        if live is None:
            return [self._failed(item, "no_weights") for item in items]
        num_tokens = sum(item.num_tokens for item in items)
        choice = choose(
            live.versions,
            num_tokens=num_tokens,
            load=self._queue.load,
            before=self._choice,
            config=self._precision,
        )
        self._note(choice)
        return self._outcomes(items, live)

    def _note(self, choice: Choice) -> None:
        """`brown_outs` counts how often one began; `browning_out` is 1 while one lasts."""
        if choice.is_brown_out != self._choice.is_brown_out:
            self._counts.add("browning_out", 1 if choice.is_brown_out else -1)
            self._counts.add("brown_outs", int(choice.is_brown_out))
            log.warning("brown_out" if choice.is_brown_out else "brown_out_ended", precisions=choice.by_version)
        self._choice = choice

    def _outcomes(self, items: Sequence[Item], live: ActiveVersions) -> list[Outcome]:
        """An outcome for each item. Where a forward raises, each item is tried once by itself."""
        answers = self._tried(items, live)
        if isinstance(answers, Exception):
            if len(items) == 1:
                return [self._blamed(items[0], answers, live)]
            log.warning("batch_failed", items=len(items), error=str(answers))
            return [outcome for item in items for outcome in self._outcomes([item], live)]
        self._last_answered = items[-1]
        self._counts.add("batches")
        self._counts.add("answers", len(answers))
        for precision, num in Counter(answer.precision for answer in answers).items():
            self._counts.add(f"answers_{precision}", num)
        return list(answers)

    def _tried(self, items: Sequence[Item], live: ActiveVersions) -> list[Answer] | Exception:
        try:
            return predict_many(
                [item.event for item in items],
                [item.token_ids for item in items],
                live,
                self._choice.by_version,
                top_scores=self._top_scores,
                receipts=self._receipts,
                now_ms=self._now_ms,
            )
        except Exception as error:  # noqa: BLE001  # whatever a forward raises: somebody is blamed for it
            return error

    def _blamed(self, item: Item, error: Exception, live: ActiveVersions) -> Outcome:
        """What becomes of an item that fails alone."""
        if isinstance(error, MACHINE_FAULTS) or self._fails_for_all(item, live):
            self._counts.add("machine_faults")
            if self._faults_s is None:  # said once for all in a row
                log.error("machine_fault", event_id=shown(item.event.id), error=str(error), exc_info=error)
            return Unanswered(item=item)
        log.error("model_failed", event_id=shown(item.event.id), error=str(error), exc_info=error)
        return self._failed(item, "model_failed")

    def _fails_for_all(self, item: Item, live: ActiveVersions) -> bool:
        """Whether what was answered before cannot be answered now, under the arm of `item`."""
        last = self._last_answered
        if last is None:
            return False
        witness = msgspec.structs.replace(last.event, id=item.event.id, key=item.event.key)
        return isinstance(self._tried([Item(event=witness, token_ids=last.token_ids, done=last.done)], live), Exception)

    def _note_faults(self, outcomes: Sequence[Outcome]) -> None:
        if not any(isinstance(outcome, Unanswered) for outcome in outcomes):
            self._faults_s = None
            return
        now_s = self._clock()
        self._faults_s = (self._faults_s[0] if self._faults_s else now_s, now_s)

    def _failed(self, item: Item, reason: str) -> ItemFailure:
        self._counts.add(reason)
        return ItemFailure(event=item.event, reason=reason)
