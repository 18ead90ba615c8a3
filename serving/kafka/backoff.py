"""Exponential back-off with jitter: how long to wait before the next attempt, so that not all return at once."""

from random import Random

LONGEST_S = 2.0
JITTER = 0.5


def backoff_s(num_failures: int, *, first_s: float, rng: Random) -> float:
    """Returns the pause after `num_failures` in a row: each doubles, up to LONGEST_S, less a random part.

    >>> share = 1 - JITTER * Random(1).random()
    >>> [round(backoff_s(num, first_s=0.5, rng=Random(1)) / share, 3) for num in (1, 2, 3, 9)]
    [0.5, 1.0, 2.0, 2.0]
    """
    doubled_s = first_s * 2.0 ** min(num_failures - 1, 32)
    return min(doubled_s, max(LONGEST_S, first_s)) * (1 - JITTER * rng.random())
