"""Prints messages in a thread of its own, so that a terminal that takes none (Ctrl-S, a full pipe) stops nothing else.

    any thread --say, which never waits--> bounded queue --thread--> tell(message)

Rejected: printing where a message is made (the supervisor starts no program while a print waits), and output that does
not block (it is the terminal's, and other programs write there, too).
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final

MAX_WAITING: Final = 100
"""Messages that wait to be printed; later ones are left out, and counted."""


class Announcer:
    """Verbs: say, wait. `tell` prints a message; if it raises OSError or ValueError, as a closed or a narrow-encoded
    output does, the message is lost and nothing else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._waiting: queue.Queue[str | threading.Event] = queue.Queue(MAX_WAITING)
        self._num_left_out = 0
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def say(self, message: str) -> None:
        """Has the message printed soon."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._num_left_out += 1

    def wait(self, timeout_s: float) -> None:
        """Returns when what was said is printed, or after `timeout_s`."""
        printed = threading.Event()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(printed)
            printed.wait(timeout_s)

    def _run(self) -> None:
        """Prints until the process ends.

        consumes: messages
        produces: lines of the output
        waits for: a message, the terminal
        unblocked by: say; whoever reads the output
        """
        while True:
            message = self._waiting.get()
            if isinstance(message, threading.Event):
                message.set()
                continue
            self._print(message)
            if self._num_left_out and self._waiting.empty():
                left_out = self._num_left_out
                self._num_left_out = 0
                self._print(f"{left_out} messages were left out while nothing could be printed: see the logs")

    def _print(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._tell(message)
