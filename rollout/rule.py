"""Promote, withdraw or hold: an anytime-valid sequential test, as a pure function of the evidence.

Two hypotheses are tested after every label, each by an e-process E: if the hypothesis holds, E ever reaches 1 / `error`
with probability `error` at most (Ville's inequality), so neither early nor frequent looks create evidence.

    "worse by `margin` or more"    rejected: the candidate is promoted
    "as good, or better"           rejected: the candidate is withdrawn        neither: hold, and wait for labels

E is the likelihood of all labels, mixed over the two accuracies, divided by the highest likelihood under the hypothesis
(universal inference: Wasserman, Ramdas and Balakrishnan 2020, arXiv 1912.11436, equation 5, with the method of mixtures
of Robbins 1970). It depends on the four counts alone, so the order of labels, their spread over the arms, and the share
of an arm change nothing; and it is exact with ten labels as with ten thousand.

The mixture of an arm is Beta(1/2, 1/2) (Jeffreys; Krichevsky and Trofimov), independent for each. For the first
hypothesis, half of the weight is on equal accuracies: a candidate that is as good is the hardest to tell from one that
is worse by `margin`. Where the counts speak against the hypothesis, its highest likelihood is on its boundary, at the
root of a cubic equation (Farrington and Manning 1990, appendix).

A candidate that is worse by less than half of `margin` is promoted in most cases, one that is worse by more is
withdrawn. Labels needed on the candidate arm (a fifth of the traffic, stable 90 %, margin 0.05, error 0.01; median):
equal 930; 10 points better 170; 5 points worse 1,200; 10 points worse 300; 60 to 90 % 40. The candidate arm is pooled
over versions: the test is of their accuracy on average, and the newest stands for them.

Rejected: a fixed test at every poll (promotes five points worse in half of all runs), normal confidence sequences (not
valid for the first tens of labels, where we decide), and betting on blocks of labels in their order (half as many
labels, but the state is a path instead of four counts; labels of both arms for the same event make that unnecessary).
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from rollout.config import RolloutConfig
from rollout.evidence import Evidence, Tally


@dataclass(frozen=True, slots=True)
class Hold:
    reason: str


@dataclass(frozen=True, slots=True)
class Promote:
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    version: int
    reason: str


Decision: TypeAlias = Hold | Promote | Withdraw


def decide(evidence: Evidence, config: RolloutConfig) -> Decision:
    """Returns the decision that follows from the evidence."""
    candidate = evidence.candidate
    stable = evidence.stable
    summary = str(evidence)
    if evidence.stable_share == 0.0:
        return Hold(f"the stable arm has no traffic to compare with: {summary}")
    if min(candidate.labels, stable.labels) < config.min_labels:
        return Hold(f"fewer than {config.min_labels} labels on an arm: {summary}")
    threshold = -math.log(config.error)
    if log_e(candidate, stable, margin=config.margin) >= threshold:
        return Promote(evidence.candidate_version, summary)
    if log_e(stable, candidate, margin=0.0) >= threshold:
        return Withdraw(evidence.candidate_version, summary)
    return Hold(f"too close to call: {summary}")


def log_e(one: Tally, other: Tally, *, margin: float) -> float:
    """Returns the logarithm of E against the hypothesis that `one` is less accurate than `other` by `margin` or more.

    It is 0, which rejects nothing, where the observed shares satisfy the hypothesis: they are then its own maximum.
    """
    if one.accuracy <= other.accuracy - margin:
        return 0.0
    mixture = _mixture(one) + _mixture(other)
    if margin > 0.0:
        equal = _mixture(Tally(one.labels + other.labels, one.correct + other.correct))
        mixture = max(mixture, equal) + math.log1p(math.exp(-abs(mixture - equal))) - math.log(2)
    share = _boundary(one, other, margin)
    return mixture - _likelihood(one, share) - _likelihood(other, share + margin)


def _mixture(tally: Tally) -> float:
    """Returns the log-likelihood of the labels, mixed over accuracies from Beta(1/2, 1/2)."""
    right = tally.correct
    wrong = tally.labels - tally.correct
    return math.lgamma(right + 0.5) + math.lgamma(wrong + 0.5) - math.lgamma(tally.labels + 1) - math.log(math.pi)


def _likelihood(tally: Tally, accuracy: float) -> float:
    """Returns the log-likelihood of the labels at this accuracy."""
    right = tally.correct and tally.correct * math.log(max(accuracy, 1e-300))
    wrong = tally.labels - tally.correct
    return right + (wrong and wrong * math.log(max(1.0 - accuracy, 1e-300)))


def _boundary(one: Tally, other: Tally, margin: float) -> float:
    """Returns the likeliest accuracy of `one` if `other`'s is higher by exactly `margin`; both arms have labels."""
    if margin == 0.0:
        return (one.correct + other.correct) / (one.labels + other.labels)
    ratio = other.labels / one.labels
    a = 1 + ratio
    b = -(1 + ratio + one.accuracy + ratio * other.accuracy - margin * (ratio + 2))
    c = margin**2 - margin * (2 * one.accuracy + ratio + 1) + one.accuracy + ratio * other.accuracy
    d = one.accuracy * margin * (1 - margin)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    u = math.copysign(math.sqrt(max(0.0, (b / (3 * a)) ** 2 - c / (3 * a))), v)
    angle = (math.pi + math.acos(max(-1.0, min(1.0, v / u**3 if u else 0.0)))) / 3
    return min(max(2 * u * math.cos(angle) - b / (3 * a), 0.0), 1.0 - margin)
