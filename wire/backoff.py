"""Exponential backoff with jitter: the pause before the next attempt. Jitter spreads the attempts of many clients."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """The pauses between attempts: each is twice the previous one, up to `longest_s`, minus a random part."""

    first_s: float
    longest_s: float
    """The longest pause after several failures. It does not shorten the first one."""
    jitter: float = 0.0
    """The largest random part, as a fraction of the pause."""
    draw: Callable[[], float] = random.random
    """Returns a random number in [0, 1)."""

    def pause_s(self, num_failures: int) -> float:
        """Returns the pause after `num_failures` consecutive failures, in seconds.

        >>> backoff = Backoff(first_s=1.0, longest_s=60.0)
        >>> [backoff.pause_s(num_failures) for num_failures in (1, 2, 3, 6, 7, 1_000_000)]
        [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
        """
        # The exponent is bounded, because a float overflows after 1,023 doublings.
        doubled_s = self.first_s * 2.0 ** min(num_failures - 1, 32)
        return min(doubled_s, max(self.longest_s, self.first_s)) * (1 - self.jitter * self.draw())
