"""Testing by betting: the evidence that the mean of the observations lies above a bound.

A gambler begins with one unit and stakes the share l of the wealth on each observation X >= 0, which multiplies it by

    1 - l + l X / mean

The expectation of this factor is at most 1 under the hypothesis "given all before, the mean of X is at most `mean`". So
the wealth is an e-process: it ever reaches 1 / error with probability `error` at most (Ville 1939). The e-value is the
mean wealth of several gamblers, each with a share of its own. The shares are fixed, so the e-value depends only on how
often each value of X was observed: neither the order of the observations nor the times of the looks change it, and a
few integers are its whole state.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B 2024, arXiv
2010.09686): the capital process K_t(m) = prod_i (1 + lambda_i (X_i - m)) of section 4 with lambda = l / m, so that the
wealth falls as the bound rises; fixed bets on a grid are their appendix B.6.

Rejected: bets that follow the observations, as most of that paper's do. Their state is a path, which a restart, a
corrected label or another order of the labels breaks.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

BETS: Final[Floats] = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.35, 0.5, 0.7, 0.9])
"""Shares of the wealth that are staked."""

WEIGHTS: Final[Floats] = np.array([1, 1, 1, 1, 8, 1, 1, 1, 1]) / 16
"""Weights of the bets. Half is on 0.3, which is aimed at a difference of 5 points: the best bet is the difference over
the share of labels on which the versions differ, 0.05 / 0.1 to 0.05 / 0.2."""


def log_e(counts: ArrayLike, payoffs: ArrayLike) -> Floats:
    """Returns the logarithm of the e-value.

    `payoffs` [values] are the values of X over the hypothesis's mean; `counts` [..., values] say how often each was
    observed.
    """
    return log_mixture(np.asarray(counts) @ log_factors(payoffs))


def log_factors(payoffs: ArrayLike) -> Floats:
    """Returns the logarithm of the factor by which an observation of each payoff multiplies each bet's wealth,
    [values, bets]."""
    return np.asarray(np.log1p(np.outer(np.asarray(payoffs) - 1, BETS)))


def log_mixture(log_wealth: Floats) -> Floats:
    """Returns the logarithm of the weighted mean of the bets' wealth: [..., bets] becomes [...]."""
    largest = log_wealth.max(axis=-1, keepdims=True)
    return np.asarray(largest[..., 0] + np.log(np.exp(log_wealth - largest) @ WEIGHTS))
