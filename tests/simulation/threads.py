"""Simulated threads, locks, events and pools: those of the standard library's names that the product uses.

Each waits by giving its turn to the scheduler of the world that runs. Before and after a simulation, and in code that
only prepares one, nothing waits.
"""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from tests.simulation.scheduler import Scheduler, Task


class Running:
    """The scheduler of the simulation that runs in this process: one at a time."""

    scheduler: Scheduler


def scheduler() -> Scheduler:
    return Running.scheduler


class Waiters:
    """Tasks that wait for one thing, in the order in which they came."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def wait(self, timeout_s: float | None = None) -> None:
        """Waits until `wake_all` is called, at most for so long. Raises Killed."""
        own = scheduler()
        task = own.current
        assert task is not None, "only a task can wait"
        self._tasks.append(task)
        try:
            own.pause(math.inf if timeout_s is None else max(timeout_s, 0.0))
        finally:
            if task in self._tasks:
                self._tasks.remove(task)

    def wake_all(self) -> None:
        tasks = self._tasks
        self._tasks = []
        for task in tasks:
            scheduler().wake(task)


class SimEvent:
    """The simulated `threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._waiters.wake_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set, at most for so long. It gives its turn away even where no time is left."""
        if not self._is_set:
            self._waiters.wait(timeout)
        return self._is_set


class SimLock:
    """The simulated `threading.Lock` and `threading.RLock`."""

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._depth = 0
        self._waiters = Waiters()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        own = scheduler()
        ends_s = own.now_s + timeout if timeout >= 0 else math.inf
        while self._depth and not (self._owner is own.current and own.current is not None):
            if self._owner is not None and self._owner.process.is_killed:
                break
            if not blocking or own.now_s >= ends_s:
                return False
            self._waiters.wait(ends_s - own.now_s if ends_s < math.inf else None)
        self._owner = own.current
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._waiters.wake_all()

    def locked(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> "SimLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class SimCondition(SimLock):
    """The simulated `threading.Condition`, with a lock of its own."""

    def __init__(self, lock: SimLock | None = None) -> None:
        super().__init__()
        self._changed = Waiters()

    def wait(self, timeout: float | None = None) -> bool:
        depth = self._depth
        self._depth = 0
        self._owner = None
        self._waiters.wake_all()
        try:
            self._changed.wait(timeout)
        finally:
            self._depth = depth
            self._owner = scheduler().current
        return True

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        ends_s = math.inf if timeout is None else scheduler().now_s + timeout
        while not (found := predicate()) and scheduler().now_s < ends_s:
            self.wait(None if ends_s == math.inf else ends_s - scheduler().now_s)
        return found

    def notify(self, n: int = 1) -> None:
        self._changed.wake_all()

    def notify_all(self) -> None:
        self._changed.wake_all()


class SimThread:
    """The simulated `wire.threads.BackgroundThread`: a task of the process that starts it."""

    def __init__(self, run: Callable[[], None], *, name: str) -> None:
        self.name = name
        self.closing = SimEvent()
        self._run = run
        self._task: Task | None = None
        self._ended = Waiters()

    def start(self) -> None:
        own = scheduler()
        assert own.current is not None
        self._task = own.start(own.current.process, self.name, self._run)
        self._task.on_end.append(self._ended.wake_all)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_over

    def join(self, timeout: float | None = None) -> None:
        if self.is_alive():
            self._ended.wait(timeout)

    def check(self, error: type[Exception]) -> None:
        if not self.is_alive():
            raise error(f"the {self.name} has ended")

    def close(self, timeout_s: float | None = None) -> None:
        self.closing.set()
        self.join(timeout_s)


class SimFuture:
    """The simulated `concurrent.futures.Future`, as far as the product uses it."""

    def __init__(self) -> None:
        self._is_done = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._waiters = Waiters()

    def done(self) -> bool:
        return self._is_done

    def result(self, timeout: float | None = None) -> Any:
        while not self._is_done:
            self._waiters.wait(timeout)
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> bool:
        return False

    def set_result(self, result: Any) -> None:
        self._result = result
        self._is_done = True
        self._waiters.wake_all()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._is_done = True
        self._waiters.wake_all()


class SimPool(Executor):
    """The simulated `ThreadPoolExecutor` of one thread: a task that lives as long as there is something to do."""

    def __init__(self, max_workers: int = 1, thread_name_prefix: str = "pool", **_: Any) -> None:
        self._name = thread_name_prefix
        self._todo: deque[tuple[SimFuture, Callable[[], Any]]] = deque()
        self._is_at_work = False

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        own = scheduler()
        assert own.current is not None
        future = SimFuture()
        self._todo.append((future, lambda: task(*args, **kwargs)))
        if not self._is_at_work:
            self._is_at_work = True
            own.start(own.current.process, self._name, self._work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._todo.clear()

    def _work(self) -> None:
        while self._todo:
            future, run = self._todo.popleft()
            try:
                result = run()
            except Exception as error:  # noqa: BLE001  # `result` raises it
                future.set_exception(error)
            else:
                future.set_result(result)
        self._is_at_work = False
