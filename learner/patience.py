"""Waits for a server that is away: exponential back-off with jitter, in pauses of 1, 2, 4, ... seconds.

A learner that starts before its servers has nothing to do but wait: if it ended, it would only be started again. The
longest pause is short enough to go on within 15 s of the end of an outage, however long that was.
"""

import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

import structlog

from wire.backoff import Backoff
from wire.errors import BusUnavailable, StoreRefused, StoreUnavailable

T = TypeVar("T")

BACKOFF = Backoff(first_s=1.0, longest_s=10.0, jitter=0.25)

log = structlog.get_logger("learner")


def patiently(ask: Callable[[], T], stop: threading.Event) -> T | None:
    """Returns what `ask` returns once the servers answer; None when `stop` came first. An outage is logged once.

    `ask` is called again from its beginning, so it must be idempotent. Raises StoreRefused, which time does not mend.
    """
    is_logged = False
    for num_failures in count(1):
        if stop.is_set():
            break
        try:
            return ask()
        except StoreRefused:
            raise
        except (BusUnavailable, StoreUnavailable) as error:
            if not is_logged:
                log.warning("waiting_for_server", reason=str(error))
                is_logged = True
        stop.wait(BACKOFF.pause_s(num_failures))
    return None
