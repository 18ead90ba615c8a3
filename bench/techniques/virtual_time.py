"""Plays arrivals through the service's queue in virtual time, which advances by the processor time of each batch.

    (time, Text), ... --BatchQueue--> batches --answer, timed--> number of texts that were answered in time

So all policies get the same arrivals, and other processes on the machine have little influence.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serving.config import ServingConfig
from serving.queue import DEFAULT, BatchQueue, ItemOptions

DEADLINE_S = 0.15
QUEUE_ITEMS = 64
"""The number of texts that may wait. Further texts are refused."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Text:
    """A text. It may arrive several times."""

    token_ids: list[int]
    label: str
    item_options: ItemOptions = DEFAULT

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        return 8 * len(self.token_ids)


Arrivals = Sequence[tuple[float, Text]]
"""Texts in order, each with its time in seconds."""


def poisson(
    draw_text: Callable[[random.Random], Text], *, rates: Sequence[float], period_s: float, end_s: float, seed: int
) -> Iterator[tuple[float, Text]]:
    """Yields the arrivals of a Poisson process until `end_s`. Each of `rates` holds for an equal part of a period."""
    rng = random.Random(seed)
    at_s = 0.0
    while at_s < end_s:
        part = int(at_s % period_s / period_s * len(rates))
        at_s += rng.expovariate(rates[part])
        yield at_s, draw_text(rng)


def play(arrivals: Arrivals, answer: Callable[[Sequence[Text], float], object]) -> int:
    """Returns the number of texts that were answered within DEADLINE_S.

    `answer` gets a batch, and the load of the queue in [0, 1] after the batch was taken.
    """
    config = ServingConfig()
    now_s = 0.0
    queue: BatchQueue[Text] = BatchQueue(
        max_items=QUEUE_ITEMS,
        max_bytes=config.max_queue_bytes,
        max_batch_items=config.max_batch_items,
        max_batch_tokens=config.max_batch_tokens,
        max_wait_ms=0.0,
        clock=lambda: now_s,
    )
    num_in_time = 0
    free_s = 0.0
    place = 0
    while place < len(arrivals) or len(queue):
        if not len(queue):
            free_s = max(free_s, arrivals[place][0])
        while place < len(arrivals) and arrivals[place][0] <= free_s:
            now_s = arrivals[place][0]
            # A full queue refuses the text.
            queue.submit_many([arrivals[place][1]])
            place += 1
        now_s = free_s
        batch = queue.take()
        assert batch is not None, "a text waits"
        start_s = time.thread_time()
        answer(batch.items, queue.load)
        free_s += time.thread_time() - start_s
        num_in_time += sum(free_s - arrived_s <= DEADLINE_S for arrived_s in batch.arrived_s)
    return num_in_time
