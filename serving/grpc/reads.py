"""The messages that are being read at one time, bounded in number and so in bytes, whatever their size.

A call of gRPC does not say how long its message is, so each counts as the longest while it is read, and the others
wait. One address has half of the places at most, so one that begins messages and does not end them keeps no other out.

Rejected: counting the bytes after they were read (by then they are in memory).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Reads:
    """The places for `num` messages. One event loop uses it."""

    def __init__(self, num: int) -> None:
        self._per_network = max(1, num // 2)
        self._places = asyncio.Semaphore(num)
        self._by_network: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, network: str) -> AsyncIterator[None]:
        """Waits for a place for a message of `network`, and holds it."""
        own = self._by_network.setdefault(network, asyncio.Semaphore(self._per_network))
        async with own, self._places:
            yield
