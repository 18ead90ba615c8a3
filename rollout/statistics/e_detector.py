"""Notices that the stable version turned bad: an e-detector on its paired differences to the version before it.

The wealth of each bet that the stable version is worse is set back to 1 where it has fallen below, so that a good past
does not hide a bad present:

    M_t = max(M_(t-1), 1) (1 - l D_t)

Source: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024, arXiv 2203.03532), section 2: the CUSUM e-detector, and
mixtures of e-detectors, which are e-detectors. As long as the stable version is not worse, the mean number of labels
to a false alarm is at least the threshold, `LABELS_TO_FALSE_ALARM`.

It depends on the order of the labels: they are to be given in the order of their events' times.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from rollout.statistics.betting import BETS, Floats, log_factors, log_mixture

LABELS_TO_FALSE_ALARM: Final = 1_000_000
"""The e-detector at which an alarm is raised."""

START: Final[Floats] = np.zeros(len(BETS))
"""The state before the first label: the logarithm of each bet's wealth, [bets]."""

_LOG_FACTORS: Final = log_factors([0.0, 1.0, 2.0])  # of a win, a tie and a loss of the stable version


def advance(log_wealth: Floats, difference: ArrayLike) -> Floats:
    """Returns the state after a label; many detectors may advance at once, [..., bets] by differences [...]."""
    return np.asarray(np.maximum(log_wealth, 0.0) + _LOG_FACTORS[1 - np.asarray(difference)])


def log_e_change(log_wealth: Floats) -> Floats:
    """Returns the logarithm of the e-detector, [...]."""
    return log_mixture(log_wealth)
