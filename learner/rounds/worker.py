"""Threads beside the learner's: one of lower priority for slow work, and a helper that shares the work of a backlog.

    learner's thread --submit(task)--> worker's thread --Future--> learner's thread, which takes the result
    parts --helper, from the first on--> results --in order--> the learner's thread, which takes parts from the last on
                                                               if it would have to wait

consumes: tasks, in the order of `submit`: a unit of a slow round, or other slow work, which comes between two units;
          or parts, in their order
produces: a Future for each task, a result for each part
waits for: a task, a part
unblocked by: a task, a part, or `shutdown`

A task must touch nothing that the learner's thread changes meanwhile: whoever makes it gives it copies, and takes its
result at a point of the learner's thread. So the order of effects does not depend on the scheduler. What a task raises
is raised where its result is taken.

All threads share Python's lock, which tensor operations and kernels give up while they compute. Measured on two cores
with four times as much other work as they can do, 200 labels a second: while a round trains, the median label is learnt
after 99 ms; after 43 ms without slow work, and after 1,050 ms if units run in the learner's thread. The helper has a
lower priority, too: it takes time that nobody else wants. If it gets none, the learner's thread does all parts but the
one that the helper has begun.

Rejected: a process of its own, which would share no lock (the sums, encoders and memories of a round would have to be
copied to it and back, and an encoder takes hundreds of megabytes), halves of a backlog (the thread that has more to do
besides would be waited for), and native threads of the encoder (they start and end together, so one thread learns while
the other is idle).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import torch

from wire.threads import lower_priority

P = ParamSpec("P")
T = TypeVar("T")

Units: TypeAlias = Generator[Callable[[], Any], Any, None]
"""Yields tasks one after another, and gets back what each has returned."""


class InlineExecutor(Executor):
    """Runs each task in the caller's thread, within `submit`, which raises what the task raises."""

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = Future[T]()
        future.set_result(task(*args, **kwargs))
        return future


INLINE: Final = InlineExecutor()


def worker_thread(name: str, *, niceness: int, threads: int) -> ThreadPoolExecutor:
    """Returns an executor of one thread, whose nice value is `niceness` above that of the process, at most 19.

    `threads` is the number of threads that a tensor operation uses there.
    """
    return ThreadPoolExecutor(1, name, initializer=_begin, initargs=(niceness, threads))


def beside(executor: Executor, name: str, *, niceness: int, threads: int) -> Executor:
    """Returns an executor of one more thread, as `worker_thread` does; INLINE for INLINE."""
    return executor if executor is INLINE else worker_thread(name, niceness=niceness, threads=threads)


def _begin(niceness: int, threads: int) -> None:
    lower_priority(niceness)
    torch.set_num_threads(threads)  # each thread has its own pool, which inherits the nice value


Part = TypeVar("Part")
Result = TypeVar("Result")


def in_order(work: Callable[[Part], Result], parts: Sequence[Part], helper: Executor) -> Iterator[Result]:
    """Yields `work(part)` of each part in their order. Both threads call `work`, which must not change anything.

    Raises what `work` raises. A single part is no work for two.
    """
    if len(parts) < 2:
        yield from map(work, parts)
        return
    shared = [helper.submit(work, part) for part in parts]
    own: dict[int, Result] = {}
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
