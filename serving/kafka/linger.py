"""Lingering: waiting records are sent at once, or after a short time in which others may join them."""

import math


class Linger:
    """The time until which waiting records linger, on the monotonic clock. It is not thread-safe: its owner guards it.

    >>> linger = Linger()
    >>> linger.shorten(0.05, now_s=1.0), linger.shorten(0.05, now_s=1.01), linger.shorten(0.0, now_s=1.02)
    (True, False, True)
    >>> linger.is_over(1.01), linger.is_over(1.02)
    (False, True)
    """

    def __init__(self) -> None:
        self._end_s = math.inf

    def is_over(self, now_s: float) -> bool:
        return now_s >= self._end_s

    def rest_s(self, now_s: float) -> float:
        """Seconds until it is over; infinite while nothing waits."""
        return self._end_s - now_s

    def shorten(self, linger_s: float, *, now_s: float) -> bool:
        """Ends within `linger_s` seconds from now. Returns whether the sender must be woken to notice that."""
        will_wake = now_s < self._end_s <= now_s + linger_s
        if will_wake:
            return False
        self._end_s = min(self._end_s, now_s + linger_s)
        return True

    def end(self, now_s: float) -> None:
        """Ends now."""
        self._end_s = min(self._end_s, now_s)

    def restart(self) -> None:
        """Nothing waits any more."""
        self._end_s = math.inf
