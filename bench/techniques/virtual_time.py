"""Plays arrivals through the service's queue in virtual time, which passes by the processor time of each batch.

    (time, Text), ... --BatchQueue--> batches --answer, timed--> how many texts were answered in time

So all contenders meet the same arrivals, and what else runs on the machine counts little.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serving.config import ServingConfig
from serving.queue import DEFAULT, BatchQueue, Terms

DEADLINE_S = 0.15
QUEUE_ITEMS = 64
"""Texts that may wait; more are refused."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Text:
    """A text that may arrive, many times."""

    token_ids: list[int]
    label: str
    terms: Terms = DEFAULT

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        return 8 * len(self.token_ids)


Arrivals = Sequence[tuple[float, Text]]
"""Texts in order, each with its time in seconds."""


def poisson(
    drawn: Callable[[random.Random], Text], *, rates: Sequence[float], period_s: float, end_s: float, seed: int
) -> Iterator[tuple[float, Text]]:
    """Yields a Poisson process whose rate takes turns, each for its part of a period, until `end_s`."""
    rng = random.Random(seed)
    at_s = 0.0
    while at_s < end_s:
        turn = int(at_s % period_s / period_s * len(rates))
        at_s += rng.expovariate(rates[turn])
        yield at_s, drawn(rng)


def play(arrivals: Arrivals, answer: Callable[[Sequence[Text], float], object]) -> int:
    """Returns how many texts were answered in time. `answer` gets a batch, and how full the queue is behind it."""
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
            queue.submit_many([arrivals[place][1]])  # refused where the queue is full
            place += 1
        now_s = free_s
        batch = queue.take()
        assert batch is not None, "a text waits"
        start_s = time.thread_time()
        answer(batch.items, queue.load)
        free_s += time.thread_time() - start_s
        num_in_time += sum(free_s - arrived_s <= DEADLINE_S for arrived_s in batch.arrived_s)
    return num_in_time
