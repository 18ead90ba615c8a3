"""Decides about newer versions whose encoder differs from the stable version's: promote, withdraw or hold. Pure.

Versions with different encoders make predictions for the same events only in a sample (`serving/predict.py`); on this
sample, `rollout/paired_rule.py` compares them. On all other events, the arms are compared by their own answers. This
takes more labels, and it does not distinguish groups of classes or sources. The labels of the candidate and of the
newest version are pooled: the test is about their mean accuracy, and its result applies to the newest version.

Two hypotheses are tested after every label, each by an e-process E (an anytime-valid sequential test). If a hypothesis
is true, the probability that E ever reaches 1 / `error` is at most `error` (Ville's inequality), however early or often
the test is evaluated.

    "worse by `margin` or more"    rejected: the newer version is promoted
    "as good, or better"           rejected: the newer version is withdrawn     neither: hold, and wait for labels

E is a likelihood ratio: the likelihood of all labels, averaged over the two accuracies, divided by the highest
likelihood under the hypothesis (universal inference: Wasserman, Ramdas and Balakrishnan 2020, arXiv 1912.11436,
equation 5, with the method of mixtures of Robbins 1970). It depends only on four counts, not on the order of the labels
or the arms' shares, and it is as exact with ten labels as with ten thousand.

The accuracy of each arm is averaged over Beta(1/2, 1/2) (Jeffreys; Krichevsky and Trofimov). For the first hypothesis,
half of the weight is on equal accuracies, because a candidate that is as good as the stable version is the hardest to
distinguish from one that is worse by `margin`. If the counts contradict the hypothesis, its highest likelihood is on
its boundary, at the root of a cubic equation (Farrington and Manning 1990, appendix).

A candidate that is worse by less than half of `margin` is promoted in most cases, and one that is worse by more is
withdrawn. Labels needed on the candidate's arm (median; the arm has a fifth of the traffic, the stable version an
accuracy of 90 %, margin 0.05, error 0.01): equal 930; 10 points better 170; 5 points worse 1,200; 10 points worse 300;
from 60 to 90 % 40.

Rejected:

- A test with a fixed sample size, repeated at every poll: in half of all runs, it promotes a candidate that is five
  points worse.
- Confidence sequences from the normal distribution: they are not valid for the first tens of labels, when decisions are
  made.
- Betting on blocks of labels in their order: it takes half as many labels, but its state depends on the order instead
  of four counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rollout.config import RolloutConfig


@dataclass(frozen=True, slots=True)
class ArmTally:
    """The number of labels for an arm's own answers, and how many of these answers were right."""

    labels: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]. It is 0 without labels."""
        return self.correct / self.labels if self.labels else 0.0

    def __add__(self, other: "ArmTally") -> "ArmTally":
        return ArmTally(self.labels + other.labels, self.correct + other.correct)

    def __str__(self) -> str:
        return f"{self.correct}/{self.labels} ({self.accuracy:.1%})"


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """Labels for the newer versions' answers (`candidate`), and for the stable version's answers at the same time."""

    stable: ArmTally = ArmTally()
    candidate: ArmTally = ArmTally()

    def __str__(self) -> str:
        return f"candidate {self.candidate}, stable {self.stable}"


@dataclass(frozen=True, slots=True)
class ArmRuling:
    """The decision, the reason in a sentence, and the logarithms of the two e-values."""

    action: Literal["promote", "withdraw", "hold"]
    reason: str
    numbers: Mapping[str, float]


def decide(evidence: ArmEvidence, config: RolloutConfig) -> ArmRuling:
    """Returns the decision that follows from the evidence."""
    candidate = evidence.candidate
    stable = evidence.stable
    summary = str(evidence)
    if min(candidate.labels, stable.labels) < config.min_labels:
        return ArmRuling("hold", f"fewer than {config.min_labels} labels on an arm: {summary}", {})
    threshold = -math.log(config.error)
    not_worse = log_e(candidate, stable, margin=config.margin)
    worse = log_e(stable, candidate, margin=0.0)
    numbers = {"not_worse": not_worse, "worse": worse}
    if not_worse >= threshold:
        return ArmRuling("promote", summary, numbers)
    if worse >= threshold:
        return ArmRuling("withdraw", summary, numbers)
    return ArmRuling("hold", f"too close to call: {summary}", numbers)


def log_e(one: ArmTally, other: ArmTally, *, margin: float) -> float:
    """Returns the logarithm of E against the hypothesis that `one` is less accurate than `other` by `margin` or more.

    If the observed accuracies satisfy the hypothesis, E is at most 1, and the result is 0, which rejects nothing.
    """
    if one.accuracy <= other.accuracy - margin:
        return 0.0
    mixture = _mixture(one) + _mixture(other)
    if margin > 0.0:
        equal = _mixture(ArmTally(one.labels + other.labels, one.correct + other.correct))
        mixture = max(mixture, equal) + math.log1p(math.exp(-abs(mixture - equal))) - math.log(2)
    share = _boundary(one, other, margin)
    return mixture - _likelihood(one, share) - _likelihood(other, share + margin)


def _mixture(tally: ArmTally) -> float:
    """Returns the log of the likelihood of the labels, averaged over accuracies from Beta(1/2, 1/2)."""
    right = tally.correct
    wrong = tally.labels - tally.correct
    return math.lgamma(right + 0.5) + math.lgamma(wrong + 0.5) - math.lgamma(tally.labels + 1) - math.log(math.pi)


def _likelihood(tally: ArmTally, accuracy: float) -> float:
    """Returns the log-likelihood of the labels at this accuracy."""
    right = tally.correct and tally.correct * math.log(max(accuracy, 1e-300))
    wrong = tally.labels - tally.correct
    return right + (wrong and wrong * math.log(max(1.0 - accuracy, 1e-300)))


def _boundary(one: ArmTally, other: ArmTally, margin: float) -> float:
    """Returns the most likely accuracy of `one`, if the accuracy of `other` is higher by exactly `margin`. Both must
    have labels."""
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
