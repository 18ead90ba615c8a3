"""Threads that run in the background until they are told to end. One that ends by itself is a fault."""

import os
import threading
from collections.abc import Callable


class BackgroundThread(threading.Thread):
    """A daemon thread that calls `run`. Verbs: start, check, close.

    `run` returns soon after `closing` is set, or after a signal of its owner, who gives it and then calls `join`.
    """

    def __init__(self, run: Callable[[], None], *, name: str) -> None:
        super().__init__(target=run, name=name, daemon=True)
        self.closing = threading.Event()

    def check(self, error: type[Exception]) -> None:
        """Raises `error` where the thread does not run: after `start` and before `close`, it has ended by itself."""
        if not self.is_alive():
            raise error(f"the {self.name} has ended")

    def close(self, timeout_s: float | None = None) -> None:
        """Tells the thread to end, and waits for its end, for at most `timeout_s` seconds (None: as long as it takes).

        A thread that was never started, or has ended, is not waited for.
        """
        self.closing.set()
        if self.is_alive():
            self.join(timeout_s)


def lower_priority(niceness: int) -> None:
    """Adds `niceness` to the nice value of this thread alone, up to 19: on Linux every thread has its own."""
    own = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, own, min(os.getpriority(os.PRIO_PROCESS, own) + niceness, 19))
