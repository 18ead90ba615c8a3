"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable

LOOK_S = 0.01


def eventually(holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Looks until it is so; fails after `within_s`. Leaves the processor to whoever makes it so."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not so within {within_s} s"
        time.sleep(LOOK_S)
