"""Background threads, which run until they are told to end. If a thread ends earlier, this is a fault."""

import os
import threading
from collections.abc import Callable


class BackgroundThread(threading.Thread):
    """A daemon thread that calls `run`. Verbs: start, check, close.

    `run` must return soon after `closing` is set. An owner may also tell the thread to end in another way, and then
    call `join`.
    """

    def __init__(self, run: Callable[[], None], *, name: str) -> None:
        super().__init__(target=run, name=name, daemon=True)
        self.closing = threading.Event()

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if the thread is not running. To be called after `start` and before `close`."""
        if not self.is_alive():
            raise error(f"the {self.name} has ended")

    def close(self, timeout_s: float | None = None) -> None:
        """Tells the thread to end, and waits for at most `timeout_s` seconds until it has (None: without a limit)."""
        self.closing.set()
        # `join` raises RuntimeError for a thread that was never started.
        if self.is_alive():
            self.join(timeout_s)


def lower_priority(niceness: int) -> None:
    """Adds `niceness` to the nice value of the calling thread, up to 19. On Linux each thread has its own value."""
    own = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, own, min(os.getpriority(os.PRIO_PROCESS, own) + niceness, 19))
