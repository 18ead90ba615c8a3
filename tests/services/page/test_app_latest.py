"""Tests that waiting readers get the newest state, and that no reader blocks another."""

import asyncio

from services.page.app import Latest


def test_a_reader_gets_the_newest_and_misses_what_came_meanwhile() -> None:
    async def read() -> list[object]:
        latest = Latest()
        assert latest.get() == b""
        waiting = asyncio.create_task(latest.after(0))
        await asyncio.sleep(0)
        for body in (b"1", b"2", b"3"):
            await asyncio.to_thread(latest.publish, body)
        first = await waiting
        later = await latest.after(0)
        none_yet = asyncio.create_task(latest.after(3))
        await asyncio.sleep(0)
        assert not none_yet.done()
        await asyncio.to_thread(latest.close)
        return [first, later, await none_yet, await latest.after(0)]

    first, later, closed, again = asyncio.run(read())
    assert first in ((1, b"1"), (2, b"2"), (3, b"3"))
    assert (later, closed, again) == ((3, b"3"), None, None)


def test_a_loop_that_is_gone_is_passed_over() -> None:
    latest = Latest()

    async def leave() -> None:
        reading = asyncio.create_task(latest.after(0))
        await asyncio.sleep(0)
        reading.cancel()

    asyncio.run(leave())
    latest.publish(b"1")
    assert latest.get() == b"1"
