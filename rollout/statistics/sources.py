"""Tests two versions by the mean of each source of labels, so that each source counts once.

Where sources are many, their means are tested instead of their labels, by `rollout.statistics.betting` with X = 1 + the
source's mean difference: whatever a single source says, it multiplies the e-value by a number between 0.1 and 2.
"""

from collections.abc import Sequence

import numpy as np

from rollout.statistics.betting import log_e


def log_e_of_means(means: Sequence[float], mean: float) -> float:
    """Returns the logarithm of E against "the mean over sources is `mean` at most", for a `mean` in (-1, 1)."""
    return float(log_e(np.ones(len(means)), (1.0 + np.array(means)) / (1.0 + mean)))
