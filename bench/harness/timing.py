"""Times a function: once, or repeatedly for a while, in wall-clock or processor time."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch


def elapsed_s(work: Callable[[], object]) -> float:
    """Returns the wall-clock time of one call, in seconds."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def thread_times_s(call: Callable[[], object], seconds: float) -> list[float]:
    """Returns the processor times of repeated calls that take about `seconds` together; the first call is a warm-up."""
    call()
    times_s: list[float] = []
    while not times_s or sum(times_s) < seconds:
        start_s = time.thread_time()
        call()
        times_s.append(time.thread_time() - start_s)
    return times_s


def fastest_call_s(call: Callable[[], object], budget_s: float, *, calls: int = 1) -> float:
    """Returns the processor time of the fastest call among the calls that fit into `budget_s` seconds.

    `calls` short calls are timed together. Wall-clock time would also count other programs on the core.
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


def fastest_in_turns_s(
    works: Mapping[str, Callable[[], object]], slice_s: float, *, rounds: int, calls: int = 1
) -> dict[str, float]:
    """Returns `fastest_call_s` of each function. In each round every function is timed for `slice_s` seconds.

    So a disturbance of the machine hits all of them.
    """
    shortest = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            shortest[name] = min(shortest[name], fastest_call_s(work, slice_s, calls=calls))
    return shortest


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on one thread while the context lasts, and then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
