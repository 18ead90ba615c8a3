"""Waits for the effect of another thread or process."""

import time
from collections.abc import Callable

PAUSE_S = 0.01


def eventually(holds: Callable[[], bool], *, within_s: float = 120.0) -> None:
    """Calls `holds`, with pauses, until it is true; fails after `within_s`. The pauses yield the processor."""
    assert in_time(holds, within_s=within_s), f"not so within {within_s} s"


def in_time(holds: Callable[[], bool], *, within_s: float) -> bool:
    """Calls `holds`, with pauses, until it is true; False where it is not after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(PAUSE_S)
    return True
