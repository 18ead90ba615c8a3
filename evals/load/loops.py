"""Runs loops in threads of their own, and notices when one of them ends too early."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol


class Loop(Protocol):
    def run(self) -> None: ...

    def close(self) -> None: ...


class Loops:
    """Runs each loop from entering to leaving."""

    def __init__(self, *loops: Loop) -> None:
        self._loops = loops
        self._threads = ThreadPoolExecutor(len(loops), thread_name_prefix="demo")
        self._running: list[Future[None]] = []

    def __enter__(self) -> "Loops":
        self._running = [self._threads.submit(loop.run) for loop in self._loops]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loop in self._loops:
            loop.close()
        self._threads.shutdown()

    def check(self) -> None:
        """Raises the exception that ended a loop, or RuntimeError where one ended without."""
        for running in self._running:
            if running.done():
                running.result()
                raise RuntimeError("a loop of the demo ended before it was closed")
