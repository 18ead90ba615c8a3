"""Promote, withdraw or wait: a pure function of the evidence.

A candidate is promoted when its accuracy is not lower than the stable arm's by more than `margin`. It is withdrawn when
it is lower by more than `margin` and `doubt` standard errors of the difference; between the two we wait for labels.
The standard error uses (correct + 1) / (labels + 2), so that an arm without a mistake is not taken for certain.
A candidate that is better beyond doubt is promoted as soon as both arms have `clear_labels`: while new classes are
learned the stable arm knows nothing of them, and each label that we wait for is an answer that is wrong.

Rejected: withdrawing at the margin itself. With 50 labels an equal candidate looks two points worse in a third of all
cases, and each withdrawal throws away what the learner did since.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from services.rollout.config import RolloutConfig
from services.rollout.evidence import Evidence, Tally


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
    """What follows from the evidence."""
    candidate, stable, seen = evidence.candidate, evidence.stable, str(evidence)
    shortfall = round(stable.accuracy - candidate.accuracy, 9)  # 0.90 - 0.88 is a hair above 0.02
    chance = config.doubt * _standard_error(candidate, stable)
    fewest = min(candidate.labels, stable.labels)
    if evidence.stable_share == 0.0 and stable.labels < config.min_labels <= candidate.labels:
        return Promote(evidence.candidate_version, f"candidate {candidate}; nothing else has traffic")
    if fewest >= config.clear_labels and -shortfall > chance:
        return Promote(evidence.candidate_version, f"clearly better: {seen}")
    if fewest < config.min_labels:
        return Hold(f"fewer than {config.min_labels} labels on an arm: {seen}")
    if shortfall <= config.margin:
        return Promote(evidence.candidate_version, seen)
    if shortfall <= config.margin + chance:
        return Hold(f"too close to call: {seen}")
    return Withdraw(evidence.candidate_version, seen)


def _standard_error(one: Tally, other: Tally) -> float:
    return math.sqrt(_variance(one) + _variance(other))


def _variance(tally: Tally) -> float:
    share = (tally.correct + 1) / (tally.labels + 2)
    return share * (1 - share) / (tally.labels + 2)
