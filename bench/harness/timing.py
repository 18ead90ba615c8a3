"""Times work: once, or again and again for a while, by the clock that suits what is compared."""

import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object]) -> float:
    """Returns how long one call takes, in wall-clock seconds."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def thread_times_s(call: Callable[[], object], seconds: float) -> list[float]:
    """Returns the processor times of calls, for about so many seconds; the first call is not counted."""
    call()
    found: list[float] = []
    while not found or sum(found) < seconds:
        start_s = time.thread_time()
        call()
        found.append(time.thread_time() - start_s)
    return found


def shortest_s(call: Callable[[], object], budget_s: float, *, calls: int = 1) -> float:
    """Returns the processor time of the shortest call, of those that fit into so many seconds.

    Short calls are timed several at a time. Wall-clock time would count what other programs do on the core.
    """
    call()
    shortest = float("inf")
    end_s = time.monotonic() + budget_s
    while time.monotonic() < end_s:
        start_s = time.process_time()
        for _ in range(calls):
            call()
        shortest = min(shortest, (time.process_time() - start_s) / calls)
    return shortest
