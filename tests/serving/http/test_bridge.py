"""The bridge between the event loop and the engine's thread."""

import asyncio

from serving.http.bridge import QUEUE_FULL, TIMEOUT, _Waiter
from serving.http.problems import Problem


def test_the_engine_outlives_a_loop_that_is_closed() -> None:
    """B25 no. 2: an answer that came while the listener ended raised in the engine's thread, which ended."""

    async def ask() -> _Waiter[Problem]:
        return _Waiter(1, asyncio.get_running_loop(), TIMEOUT, 10.0)

    with asyncio.Runner() as runner:
        waiter = runner.run(ask())
    waiter.resolve(0, QUEUE_FULL)
