"""Events a second, as an exponentially weighted mean: what the engine has to do, known without a window of times."""

import math
from typing import Final

WINDOW_S: Final = 5.0
"""Time after which an event counts 1/e of what it counted at first."""


class EventRate:
    """The events of each batch, with the time at which it began.

    >>> rate = EventRate()
    >>> for second in range(60):
    ...     rate.add(20, second)
    >>> 20 <= rate.per_s < 23
    True
    """

    def __init__(self) -> None:
        self._last_s = -math.inf
        self.per_s = 0.0
        """Events a second, as of the last batch."""

    def add(self, num_events: int, now_s: float) -> None:
        """Adds a batch; time may not go back."""
        self.per_s *= math.exp((self._last_s - now_s) / WINDOW_S)
        self.per_s += num_events / WINDOW_S
        self._last_s = now_s
