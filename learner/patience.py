"""Waits for a server that is away: exponential back-off with jitter, in pauses of 1, 2, 4, ... seconds.

A learner that starts before its servers has nothing to do but wait: if it ended, it would only be started again. The
longest pause is short enough to go on within 15 s of the end of an outage, however long that was.
"""

import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog

from wire.errors import BusUnavailable, StoreUnavailable

T = TypeVar("T")

MAX_PAUSE_S = 10.0

log = structlog.get_logger("learner")


def pauses(draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Yields the pause before each attempt but the first, without end. `draw` returns a number in [0, 1).

    >>> from itertools import islice
    >>> list(islice(pauses(lambda: 0.0), 6))
    [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    """
    pause_s = 1.0
    while True:
        yield pause_s * (1 - draw() / 4)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def patiently(ask: Callable[[], T], stop: threading.Event) -> T | None:
    """What `ask` returns once the servers answer; None when `stop` came first. An outage is logged once.

    `ask` is called again from its beginning, so it must be idempotent.
    """
    is_logged = False
    for pause_s in pauses():
        if stop.is_set():
            break
        try:
            return ask()
        except (BusUnavailable, StoreUnavailable) as error:
            if not is_logged:
                log.warning("waiting_for_server", reason=str(error))
                is_logged = True
        stop.wait(pause_s)
    return None
