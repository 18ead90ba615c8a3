"""Where slow work runs: in one thread of lower priority, so that it never delays a label.

    learner's thread --submit(task)--> worker's thread --Future--> learner's thread, which takes the result

consumes: tasks, in the order of `submit`: a unit of a slow round, or other slow work, which comes between two units
produces: a Future for each
waits for: a task
unblocked by: a task, or `shutdown`

A task must touch nothing that the learner's thread changes meanwhile: whoever makes it gives it copies, and takes its
result at a point of the learner's thread. So the order of effects does not depend on the scheduler. What a task raises
is raised where its result is taken.

Both threads share Python's lock, which tensor operations and kernels give up while they compute. Measured on two cores
with four times as much other work as they can do, 200 labels a second: while a round trains, the median label is learnt
after 99 ms; after 43 ms without slow work, and after 1,050 ms where units run in the learner's thread.

Rejected: a process of its own, which would share no lock (the sums, encoders and memories of a round would have to be
copied to it and back, and an encoder takes hundreds of megabytes).
"""

from collections.abc import Callable, Generator
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
