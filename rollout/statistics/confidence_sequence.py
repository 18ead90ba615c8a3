"""A confidence sequence for a share: bounds that hold at every number of observations at once.

A share `m` is inside as long as neither "the share is at most m" nor "it is at least m" is rejected at half the error,
each by the bets of `rollout.statistics.betting` on X / m. So the bounds may be looked at after every label, and the
share is ever outside of them with probability `error` at most (Ville 1939; Waudby-Smith and Ramdas, arXiv 2010.09686,
theorem 3). Two integers are the whole state. Bounds are looked for among thousandths, and rounded outwards.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np

from rollout.statistics.betting import Floats, log_factors, log_mixture

ERROR: Final = 0.05
"""Probability at most that the share is ever outside."""

SHARES: Final[Floats] = np.arange(1, 1_000) / 1_000
"""Candidates for a bound, ascending."""


def share_interval(num_right: int, num: int, *, error: float = ERROR) -> tuple[float, float]:
    """Returns the bounds of the share of which `num_right` among `num` observations are a sample, both in [0, 1].

    >>> share_interval(0, 0)
    (0.0, 1.0)
    """
    return _lower_bound(num_right, num, error), 1.0 - _lower_bound(num - num_right, num, error)


def _lower_bound(num_right: int, num: int, error: float) -> float:
    """Returns the largest share that is rejected as too low; 0 where none is."""
    for_right_MB, for_wrong_B = _factors()
    log_e_M = log_mixture(num_right * for_right_MB + (num - num_right) * for_wrong_B)
    num_rejected = int((log_e_M >= math.log(2.0 / error)).sum())  # the wealth falls as the share rises
    return float(SHARES[num_rejected - 1]) if num_rejected else 0.0


@lru_cache(maxsize=1)
def _factors() -> tuple[Floats, Floats]:
    return log_factors(1.0 / SHARES), log_factors([0.0])[0]
