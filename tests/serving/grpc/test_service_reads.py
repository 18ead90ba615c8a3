"""The places for messages that are being read."""

import asyncio
from contextlib import AsyncExitStack

from serving.grpc.service import ReadSlots


def test_one_address_has_half_of_the_places() -> None:
    async def check() -> None:
        reads = ReadSlots(4)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(reads.slot("attacker"))
            third = asyncio.ensure_future(held.enter_async_context(reads.slot("attacker")))
            for name in ("a", "b"):
                await held.enter_async_context(reads.slot(name))
            assert not third.done()
            third.cancel()
        async with reads.slot("attacker"), reads.slot("attacker"):
            pass

    asyncio.run(asyncio.wait_for(check(), 30))


def test_all_together_have_no_more_than_there_are() -> None:
    async def check() -> None:
        reads = ReadSlots(2)
        async with reads.slot("a"), reads.slot("b"):
            waiting = asyncio.ensure_future(_hold(reads, "c"))
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting

    asyncio.run(asyncio.wait_for(check(), 30))


async def _hold(reads: ReadSlots, network: str) -> None:
    async with reads.slot(network):
        pass
