"""Tests whether each arm gets its share of the traffic: a sample ratio mismatch means that the routing is wrong.

The e-value is the Bayes factor of a Dirichlet distribution around the planned shares against the shares themselves
(Lindon and Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022, arXiv 2011.03567, section 2): for
counts x with sum n, shares theta and the concentration alpha_i = 100 theta_i,

    E = Gamma(100) / Gamma(100 + n)  prod_i Gamma(alpha_i + x_i) / Gamma(alpha_i)  /  prod_i theta_i^x_i

Each key is counted once for each plan, as all events of a key go to the same arm; a new plan begins new counts.
"""

import math
from collections.abc import Sequence
from typing import Final

CONCENTRATION: Final = 100.0
"""Weight of the planned shares, in observations."""


def log_e_mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Returns the logarithm of E against "arms are drawn with these shares". An arm of share 0 is left out."""
    if min(shares) <= 0.0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
        raise ValueError(f"shares are {list(shares)}, and must be positive with sum 1: leave out arms without traffic")
    log_e = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = CONCENTRATION * share
        log_e += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return log_e
