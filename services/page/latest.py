"""The newest state, handed to every reader that waits for one: a queue of one, so a slow reader misses states.

    publish (a thread) --> after (coroutines of one event loop)

Rejected: a queue for each reader (states are whole, so an old one is of no use to anybody).
"""

import asyncio
import threading


class Latest:
    """Holds the last published bytes. Verbs: publish, get, after, close. Any thread publishes and closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._body = b""
        self._is_closed = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def publish(self, body: bytes) -> None:
        """Replaces what readers get, and wakes those that wait."""
        with self._lock:
            self._number += 1
            self._body = body
            self._wake()

    def close(self) -> None:
        """Ends the wait of every reader, for good."""
        with self._lock:
            self._is_closed = True
            self._wake()

    def get(self) -> bytes:
        """Returns the last bytes; none before the first."""
        with self._lock:
            return self._body

    async def after(self, number: int) -> tuple[int, bytes] | None:
        """Waits for bytes that were published after those of `number`; returns their number and them.

        None where it is closed.
        """
        while True:
            changed = asyncio.Event()
            with self._lock:
                if self._is_closed:
                    return None
                if self._number > number:
                    return self._number, self._body
                self._waiting.append((asyncio.get_running_loop(), changed))
            await changed.wait()

    def _wake(self) -> None:
        for loop, changed in self._waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)
        self._waiting = []
