"""Shares work between the learner's thread and a helper, which begins at the first part while the thread is elsewhere.

    parts --helper, from the first on--> results --in order--> the learner's thread, which takes parts from the last on
                                                               where it would have to wait

The helper has a lower priority: it takes time that nobody else wants. Where it gets none, the learner's thread does all
parts but the one that the helper has begun.

consumes: parts, in their order
produces: a result for each
waits for: a part
unblocked by: a part, or `shutdown` of the executor

Rejected: halves (the thread that has more to do besides would be waited for), and native threads of the encoder (they
start and end together, so one thread learns while the other is idle).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


def in_order(work: Callable[[P], R], parts: Sequence[P], helper: Executor) -> Iterator[R]:
    """Yields `work(part)` of each part in their order. Both threads call `work`, which must not change anything.

    Raises what `work` raises. A single part is no work for two.
    """
    if len(parts) < 2:
        yield from map(work, parts)
        return
    shared = [helper.submit(work, part) for part in parts]
    own: dict[int, R] = {}
    last = len(parts) - 1
    try:
        for place, future in enumerate(shared):
            while place not in own and not future.done() and shared[last].cancel():
                own[last] = work(parts[last])
                last -= 1
            yield own.pop(place) if place in own else future.result()
    finally:
        for future in shared:
            future.cancel()
