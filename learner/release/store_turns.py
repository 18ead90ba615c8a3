"""Asks the store now and then, in the learner's turns, while it is there.

    turn --due, breaker closed--> ask() --StoreUnavailable--> the breaker trips
                                        --another WireError--> counted and logged; the next turn asks again

Rejected: a thread for it (what is asked for changes what the learner knows, which belongs to one thread).
"""

import time
from collections import Counter
from collections.abc import Callable

import structlog

from learner.leadership import Leadership
from wire.errors import StaleEpoch, StoreUnavailable, WireError

INTERVAL_S = 1.0
"""Shortest time between two questions."""

log = structlog.get_logger("learner")


class StoreTurns:
    """Belongs to the learner's thread. A question that fails counts as `count`, and is logged as `event`."""

    def __init__(
        self,
        leadership: Leadership,
        counts: Counter[str],
        *,
        count: str,
        event: str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = leadership.breaker
        self._counts = counts
        self._count = count
        self._event = event
        self._clock_s = clock_s
        self._next_s = 0.0

    def take(self, ask: Callable[[], None]) -> None:
        """Calls `ask`, at most every INTERVAL_S, while the store is there. Raises StaleEpoch."""
        if self._clock_s() < self._next_s or not self._breaker.allows_requests:
            return
        self._next_s = self._clock_s() + INTERVAL_S
        try:
            ask()
        except StaleEpoch:
            raise
        except StoreUnavailable as error:
            self._breaker.trip(error)
        except WireError as error:
            self._counts[self._count] += 1
            log.warning(self._event, reason=str(error))
