"""Sequential tests that may be evaluated after every observation, with a bounded probability of error.

Each function returns the logarithm of an e-value E. If the tested hypothesis is true, the probability that E ever
reaches 1 / error is at most `error`, however often the test is evaluated (Ville's inequality, 1939).

    log_e, log_mixture       testing by betting, on which most of the others are built
    PairedTally, log_e_value_above two versions, compared on the labelled events for which both made a prediction
    log_e_value_of_means           the same test with one value for each source of labels
    advance_detector         detects that the stable version turned bad
    share_interval           a confidence sequence: bounds of a share
    log_e_value_errors, log_e_value_slow health: errors and latency of one version
    log_e_value_mismatch           sample ratio mismatch: does each arm get its share of the traffic?
    exact_upper_bound        Clopper-Pearson bound of a share: the only one that may be evaluated once only

Testing by betting measures the evidence that the mean of the observations lies above a bound. A gambler begins with a
wealth of 1 and stakes the share l of the wealth on each observation X >= 0. The observation multiplies the wealth by

    1 - l + l X / mean

The tested hypothesis is that the expectation of X, given all earlier observations, is at most `mean`. Under it, the
expectation of this factor is at most 1, so the wealth is an e-process. The e-value is the mean wealth of several
gamblers with different shares l. These shares are fixed, so the e-value depends only on how often each value of X was
observed. It does not depend on the order of the observations, nor on the times at which it is evaluated, and its state
is a few integers.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B 2024, arXiv
2010.09686): the capital process K_t(m) = prod_i (1 + lambda_i (X_i - m)) of section 4 with lambda = l / m, so that the
wealth falls as the bound rises; fixed bets on a grid are their appendix B.6.

Rejected: bets that depend on earlier observations, as most bets of that paper do. Their state depends on the order of
the observations, so neither a restart nor a corrected label is possible without all of them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

BETS: Final[Floats] = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.35, 0.5, 0.7, 0.9])
"""The gamblers' stakes, as shares of their wealth."""

BET_WEIGHTS: Final[Floats] = np.array([1, 1, 1, 1, 8, 1, 1, 1, 1]) / 16
"""Weights of the bets. Half of the weight is on 0.3, which suits a difference of 5 points: the best bet is the
difference divided by the share of labels on which the versions differ, so it is between 0.05 / 0.2 and 0.05 / 0.1."""


def log_e(counts: ArrayLike, payoffs: ArrayLike) -> Floats:
    """Returns the logarithm of the e-value, [...].

    `payoffs` [values] are the possible values of X, divided by the hypothesis's mean. `counts` [..., values] are the
    numbers of times that each value was observed.
    """
    return log_mixture(np.asarray(counts) @ log_factors(payoffs))


def log_factors(payoffs: ArrayLike) -> Floats:
    """Returns the logarithms of the factors by which observations multiply the wealth, [values, bets].

    There is one factor for each payoff and each bet.
    """
    return np.asarray(np.log1p(np.outer(np.asarray(payoffs) - 1, BETS)))


def log_mixture(log_wealth: Floats) -> Floats:
    """Returns the logarithm of the weighted mean of the bets' wealth: [..., bets] becomes [...]."""
    largest = log_wealth.max(axis=-1, keepdims=True)
    return np.asarray(largest[..., 0] + np.log(np.exp(log_wealth - largest) @ BET_WEIGHTS))


# --- Two versions, compared on the labelled events for which both made a prediction ---
#
# The difference D of an event is 1 if only the new version was right (a win), -1 if only the old one was (a loss), and
# 0 if both or neither were (a tie). Hypotheses about the mean of D, which is the difference of the accuracies, are
# tested by betting with X = 1 + D:
#
#     "new is not worse"              log_e_value_below(tally, 0)          rejected: it is worse
#     "new is not better"             log_e_value_above(tally, 0)          rejected: it is better
#     "new is worse by the margin"    log_e_value_above(tally, -margin)    rejected: it is not
#
# In the first two tests, ties have no effect: they are the sequential form of McNemar's test, the sign test on the
# events on which the versions differ. The state is three integers. They can be added over batches and workers, a
# corrected label subtracts its old difference, and the result does not depend on the order.
#
# Labels until a version that is 5 points worse is shown to be worse at an error of 1 %, median of 10,000 simulated runs
# (`tests/rollout/test_paired_rule_rates.py`): 213 if the versions differ on 5 % of the labels, 396 on 10 %, 678 on 20
# %, and 1,232 on 30 %.


@dataclass(frozen=True, slots=True)
class PairedTally:
    """The number of labelled events on which only the new version was right (wins), both or neither were right (ties),
    or only the old version was right (losses)."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @classmethod
    def from_differences(cls, differences: Iterable[int]) -> "PairedTally":
        """Counts differences: 1 if only the new version is right, -1 if only the old one is, 0 otherwise."""
        counts = Counter(differences)
        return cls(counts[1], counts[0], counts[-1])

    @property
    def labels(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def mirrored(self) -> "PairedTally":
        """The same labels with the versions exchanged."""
        return PairedTally(self.losses, self.ties, self.wins)

    def __add__(self, other: "PairedTally") -> "PairedTally":
        return PairedTally(self.wins + other.wins, self.ties + other.ties, self.losses + other.losses)

    def __sub__(self, other: "PairedTally") -> "PairedTally":
        return PairedTally(self.wins - other.wins, self.ties - other.ties, self.losses - other.losses)

    def __str__(self) -> str:
        return f"{self.wins} won, {self.ties} tied, {self.losses} lost"


NO_LABELS: Final = PairedTally()


def log_e_value_above(tally: PairedTally, mean: float) -> float:
    """Returns the logarithm of E against "the mean difference is at most `mean`", for a `mean` in (-1, 1)."""
    return float(log_e_value_above_each([tally], mean)[0])


def log_e_value_above_each(tallies: Sequence[PairedTally], mean: float) -> Floats:
    """Returns `log_e_value_above` of each tally, [tallies]."""
    counts = np.array([(tally.wins, tally.ties, tally.losses) for tally in tallies])
    return log_mixture(counts @ _paired_factors(mean))


@lru_cache(maxsize=64)
def _paired_factors(mean: float) -> Floats:
    return log_factors(payoffs(mean))


def log_e_value_below(tally: PairedTally, mean: float) -> float:
    """Returns the logarithm of E against "the mean difference is at least `mean`", for a `mean` in (-1, 1)."""
    return log_e_value_above(tally.mirrored, -mean)


def payoffs(mean: float) -> Floats:
    """Returns the payoffs of a win, a tie and a loss for a bet that the mean difference is above `mean`."""
    return np.array([2.0, 1.0, 0.0]) / (1.0 + mean)


# --- Two versions, compared by the mean of each source of labels, so that each source counts once ---
#
# If there are many sources, their means are tested instead of their labels, by betting with X = 1 + the source's mean
# difference. So a single source can multiply the e-value only by a number between 0.1 and 2, whatever its labels are.


def log_e_value_of_means(means: Sequence[float], mean: float) -> float:
    """Returns the logarithm of E against "the mean over sources is at most `mean`", for a `mean` in (-1, 1)."""
    return float(log_e(np.ones(len(means)), (1.0 + np.array(means)) / (1.0 + mean)))


# --- An e-detector (CUSUM): the stable version turned bad, compared with the version before it ---
#
# Each bet is that the stable version is worse. Its wealth is reset to 1 whenever it has fallen below 1, so that a good
# past does not hide a bad present:
#
#     M_t = max(M_(t-1), 1) (1 - l D_t)
#
# Source: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024, arXiv 2203.03532), section 2: the CUSUM e-detector, and
# mixtures of e-detectors, which are e-detectors. As long as the stable version is not worse, the mean number of labels
# to a false alarm is at least the threshold, `LABELS_TO_FALSE_ALARM`.
#
# It depends on the order of the labels, which must be the order of their events' times.

LABELS_TO_FALSE_ALARM: Final = 1_000_000
"""The alarm is raised when the e-detector reaches this value."""

DETECTOR_START: Final[Floats] = np.zeros(len(BETS))
"""The state before the first label: the logarithm of each bet's wealth, [bets]."""

# The factors of a win, a tie and a loss of the stable version.
_DETECTOR_FACTORS: Final = log_factors([0.0, 1.0, 2.0])


def advance_detector(log_wealth: Floats, difference: ArrayLike) -> Floats:
    """Returns the state after one more label, [..., bets]. `difference` [...] is 1, 0 or -1 for each detector."""
    return np.asarray(np.maximum(log_wealth, 0.0) + _DETECTOR_FACTORS[1 - np.asarray(difference)])


def log_e_value_change(log_wealth: Floats) -> Floats:
    """Returns the logarithm of the e-detector in each state, [...]."""
    return log_mixture(log_wealth)


# --- A confidence sequence for a share: bounds that hold at every number of observations at once ---
#
# A share `m` is inside the bounds as long as neither "the share is at most m" nor "it is at least m" is rejected at
# half the error, each by betting on X / m. So the bounds may be evaluated after every label, and the probability that
# the true share is ever outside of them is at most `error` (Waudby-Smith and Ramdas, arXiv 2010.09686, theorem 3). The
# state is two integers. The bounds are multiples of 0.001, rounded outwards.

INTERVAL_ERROR: Final = 0.05
"""Upper bound of the probability that the true share is ever outside of the bounds."""

INTERVAL_SHARES: Final[Floats] = np.arange(1, 1_000) / 1_000
"""Possible values of a bound, ascending."""


def share_interval(num_right: int, num: int, *, error: float = INTERVAL_ERROR) -> tuple[float, float]:
    """Returns the lower and the upper bound of a share, in [0, 1], if `num_right` of `num` observations were right.

    >>> share_interval(0, 0)
    (0.0, 1.0)
    """
    return _interval_low(num_right, num, error), 1.0 - _interval_low(num - num_right, num, error)


def _interval_low(num_right: int, num: int, error: float) -> float:
    """Returns the largest share that is rejected as too low; 0 if none is."""
    for_right_MB, for_wrong_B = _interval_factors()
    log_e_M = log_mixture(num_right * for_right_MB + (num - num_right) * for_wrong_B)
    # The wealth falls as the share rises, so the rejected shares come first.
    num_rejected = int((log_e_M >= math.log(2.0 / error)).sum())
    return float(INTERVAL_SHARES[num_rejected - 1]) if num_rejected else 0.0


@lru_cache(maxsize=1)
def _interval_factors() -> tuple[Floats, Floats]:
    return log_factors(1.0 / INTERVAL_SHARES), log_factors([0.0])[0]


# --- Health: errors and latency of one version, whatever its accuracy ---
#
# After Lindon, Sanden and Shirikian, Rapid regression detection in software deployments through sequential testing (KDD
# 2022, arXiv 2205.14762): both tests may be evaluated after every answer. Errors are tested by the likelihood ratio of
# Wald's sequential probability ratio test (1945), latency by the sign test of `log_e_value_above`.
#
# Replicas count both (`VersionHealth`). The answers of one forward pass share its latency, so only
# one of them is counted.

TOLERATED_ERROR_RATE: Final = 0.0005
"""Share of answers that may fail. If it were 0.1 %, the test would need more answers: of the versions of which 1 % of
the answers fail, it would miss 5 % within 1,000 answers at an error probability of 1 %, and 11 % at 0.1 %."""

BAD_ERROR_RATE: Final = 0.01
"""Share of failing answers that the test is designed to detect."""


def log_e_value_errors(errors: int, answers: int) -> float:
    """Returns the logarithm of E against "an answer fails with a probability of at most `TOLERATED_ERROR_RATE`"."""
    log_error = math.log(BAD_ERROR_RATE / TOLERATED_ERROR_RATE)
    log_success = math.log((1 - BAD_ERROR_RATE) / (1 - TOLERATED_ERROR_RATE))
    return errors * log_error + (answers - errors) * log_success


def log_e_value_slow(slow: int, answers: int) -> float:
    """Returns the logarithm of E against "an answer is slow with a probability of at most 1/2"."""
    return log_e_value_above(PairedTally(wins=slow, losses=answers - slow), 0.0)


# --- Sample ratio mismatch: if an arm does not get its share of the traffic, the routing is wrong ---
#
# The e-value is a Bayes factor: a Dirichlet distribution around the planned shares against the planned shares
# themselves (Lindon and Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022, arXiv 2011.03567,
# section 2): for counts x with sum n, shares theta and the concentration alpha_i = 100 theta_i,
#
#     E = Gamma(100) / Gamma(100 + n)  prod_i Gamma(alpha_i + x_i) / Gamma(alpha_i)  /  prod_i theta_i^x_i
#
# Each key is counted once under each plan, since all events of a key go to the same arm.

CONCENTRATION: Final = 100.0
"""Concentration of the Dirichlet distribution: the weight of the planned shares, as a number of observations."""


def log_e_value_mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Returns the logarithm of E against "arms are drawn with these shares".

    Raises ValueError unless all shares are positive and add up to 1.
    """
    if min(shares) <= 0.0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
        raise ValueError(f"shares must be positive and add up to 1, not {list(shares)}: leave out arms without traffic")
    log_e = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = CONCENTRATION * share
        log_e += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return log_e


# --- Exact confidence bounds of a share (Clopper and Pearson 1934): each is one-sided, and may be evaluated once ---

NUM_HALVINGS = 50


@lru_cache(maxsize=4_096)
def exact_upper_bound(count: int, total: int, error: float) -> float:
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


def exact_lower_bound(count: int, total: int, error: float) -> float:
    """Returns the lower confidence bound: the share at which `count` or more of `total` have probability `error`."""
    return 1.0 - exact_upper_bound(total - count, total, error)
