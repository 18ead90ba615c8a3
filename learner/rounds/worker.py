"""The threads that assist the learner's thread: a worker of lower priority for slow work, and a helper for many texts.

    learner's thread --submit(task)--> worker's thread --Future--> learner's thread, which takes the result
    parts --the helper works from the first part on---------------> results in order
          --the learner's thread works from the last part on, ------^
            instead of waiting for the helper

consumes: tasks, in the order of `submit`: a unit of a slow round, or other slow work, which comes between two units;
          or parts, in their order
produces: a Future for each task, a result for each part
waits for: a task, a part
unblocked by: a task, a part, or `shutdown`

A task must not share mutable state with the learner's thread. So the caller passes copies, and takes the result at a
fixed point of the learner's thread. Then the order of effects does not depend on the scheduler of the operating system.
If a task fails, its error is raised when its result is taken.

All threads share Python's global interpreter lock. Tensor operations and kernels release it while they compute.
Measured at 200 labels a second, on two cores with four times as much other work as they can do: the median label is
learnt after 99 ms while a round trains, after 43 ms without slow work, and after 1,050 ms if the units run in the
learner's thread. The helper has a lower priority, too, and uses idle processor time. If there is none, the learner's
thread does all parts except the one that the helper has begun.

Rejected:

- A separate process, which would have its own lock: the sums, encoders and replay buffer of a round would have to be
  copied to it and back, and an encoder takes hundreds of megabytes.
- Halving the parts in advance: the faster thread would wait for the slower one.
- Several threads inside the encoder: they start and end together, so one of them is idle while the learner's thread
  learns.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import torch

from wire.threads import lower_priority

P = ParamSpec("P")
T = TypeVar("T")

Units: TypeAlias = Generator[Callable[[], Any], Any, None]
"""Yields tasks one after another, and receives the result of each."""


class InlineExecutor(Executor):
    """An executor that runs each task at once in the caller's thread. `submit` raises the task's error."""

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = Future[T]()
        future.set_result(task(*args, **kwargs))
        return future


INLINE: Final = InlineExecutor()


def worker_thread(name: str, *, niceness: int, threads: int) -> ThreadPoolExecutor:
    """Returns an executor with one thread. Its nice value is `niceness` above the process's nice value, at most 19.

    `threads` is the number of threads that a tensor operation in this thread uses.
    """
    return ThreadPoolExecutor(1, name, initializer=_begin, initargs=(niceness, threads))


def side_executor(executor: Executor, name: str, *, niceness: int, threads: int) -> Executor:
    """Returns an executor with a thread of its own; INLINE if `executor` is INLINE, so that tests have one thread."""
    return executor if executor is INLINE else worker_thread(name, niceness=niceness, threads=threads)


def _begin(niceness: int, threads: int) -> None:
    lower_priority(niceness)
    # Each thread has its own pool of torch's threads, which inherits the nice value.
    torch.set_num_threads(threads)


Part = TypeVar("Part")
Result = TypeVar("Result")


def in_order(work: Callable[[Part], Result], parts: Sequence[Part], helper: Executor) -> Iterator[Result]:
    """Yields `work(part)` for each part, in order. The helper and the caller's thread share the parts.

    `work` must have no side effects. Raises the errors of `work`. A single part is done without the helper.
    """
    if len(parts) < 2:
        yield from map(work, parts)
        return
    shared = [helper.submit(work, part) for part in parts]
    own: dict[int, Result] = {}
    last = len(parts) - 1
    try:
        for index, future in enumerate(shared):
            # While the helper works on this part, this thread takes parts from the end that the helper has not begun.
            while index not in own and not future.done() and shared[last].cancel():
                own[last] = work(parts[last])
                last -= 1
            yield own.pop(index) if index in own else future.result()
    finally:
        for future in shared:
            future.cancel()
