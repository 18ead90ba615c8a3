"""The ends of the exact confidence interval of a share (Clopper and Pearson 1934): each one-sided, for one look."""

import math
from functools import lru_cache

import numpy as np

NUM_HALVINGS = 50


@lru_cache(maxsize=4_096)
def upper_bound(count: int, total: int, error: float) -> float:
    """Returns the upper confidence bound: the share at which `count` or fewer of `total` have probability `error`."""
    if count >= total:
        return 1.0
    numbers = np.arange(count + 1)
    choices = np.array([math.lgamma(number + 1) + math.lgamma(total - number + 1) for number in range(count + 1)])
    low = count / total
    high = 1.0
    for _ in range(NUM_HALVINGS):
        share = (low + high) / 2
        logs = math.lgamma(total + 1) - choices + numbers * math.log(share) + (total - numbers) * math.log1p(-share)
        if np.exp(logs).sum() > error:
            low = share
        else:
            high = share
    return high


def lower_bound(count: int, total: int, error: float) -> float:
    """Returns the lower confidence bound: the share at which `count` or more of `total` have probability `error`."""
    return 1.0 - upper_bound(total - count, total, error)
