"""How long to wait before the next attempt: exponential back-off with jitter, so that many do not return at once."""

from random import Random

LONGEST_S = 2.0
JITTER = 0.5


def pause_s(num_failures: int, *, first_s: float, rng: Random) -> float:
    """The pause after so many failures in a row: each twice the one before, up to LONGEST_S, less a random part.

    >>> [round(pause_s(num, first_s=0.5, rng=Random(1)) / (1 - JITTER * Random(1).random()), 3) for num in (1, 2, 3, 9)]
    [0.5, 1.0, 2.0, 2.0]
    """
    doubled_s = first_s * 2.0 ** min(num_failures - 1, 32)
    return min(doubled_s, max(LONGEST_S, first_s)) * (1 - JITTER * rng.random())
