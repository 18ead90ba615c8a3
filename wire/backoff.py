"""Exponential back-off with jitter: how long to wait before the next attempt, so that not all return at once."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """The pauses between attempts: each is twice the one before, up to `longest_s`, less a random part."""

    first_s: float
    longest_s: float
    """The longest pause after several failures. It does not shorten the first one."""
    jitter: float = 0.0
    """The largest random part, as a share of the pause."""
    draw: Callable[[], float] = random.random
    """Returns a random number in [0, 1)."""

    def pause_s(self, num_failures: int) -> float:
        """Returns the pause after `num_failures` in a row, in seconds.

        >>> backoff = Backoff(first_s=1.0, longest_s=60.0)
        >>> [backoff.pause_s(num_failures) for num_failures in (1, 2, 3, 6, 7, 1_000_000)]
        [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
        """
        doubled_s = self.first_s * 2.0 ** min(num_failures - 1, 32)
        return min(doubled_s, max(self.longest_s, self.first_s)) * (1 - self.jitter * self.draw())
