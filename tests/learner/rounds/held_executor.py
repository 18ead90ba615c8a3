"""An executor that runs its tasks when a test tells it to."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class HeldExecutor(Executor):
    """Runs the tasks in their order, one at each `finish`. A thread that waits for a held task waits forever."""

    def __init__(self) -> None:
        self._held = deque[tuple[Future[Any], Callable[[], Any]]]()

    def submit(self, task: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future = Future[T]()
        self._held.append((future, lambda: task(*args, **kwargs)))
        return future

    def finish(self) -> None:
        """Runs the task that was submitted first, if there is one."""
        if self._held:
            future, task = self._held.popleft()
            future.set_result(task())
