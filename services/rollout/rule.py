"""Promote, withdraw or wait: a pure function of the evidence.

A candidate is promoted when its accuracy is not lower than the stable arm's by more than `margin`. It is withdrawn when
it is lower by more than `margin` and `doubt` standard errors of the difference; between the two we wait for labels.
The standard error uses (correct + 1) / (labels + 2), so that an arm without a mistake is not taken for certain.

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
    candidate, stable = evidence.candidate, evidence.stable
    version = evidence.candidate_version
    if candidate.labels < config.min_labels:
        return Hold(f"the candidate has {candidate.labels} of {config.min_labels} labels")
    if evidence.stable_share == 0.0 and not stable.labels:
        return Promote(version, f"{_said(candidate)}; nothing else has traffic")
    if stable.labels < config.min_labels:
        return Hold(f"the stable arm has {stable.labels} of {config.min_labels} labels")
    seen = f"candidate {_said(candidate)}, stable {_said(stable)}"
    shortfall = round(stable.accuracy - candidate.accuracy, 9)  # 0.90 - 0.88 is a hair above 0.02
    if shortfall <= config.margin:
        return Promote(version, seen)
    if shortfall <= config.margin + config.doubt * _standard_error(candidate, stable):
        return Hold(f"too close to call: {seen}")
    return Withdraw(version, seen)


def _standard_error(one: Tally, other: Tally) -> float:
    return math.sqrt(_variance(one) + _variance(other))


def _variance(tally: Tally) -> float:
    share = (tally.correct + 1) / (tally.labels + 2)
    return share * (1 - share) / (tally.labels + 2)


def _said(tally: Tally) -> str:
    return f"{tally.correct}/{tally.labels} ({tally.accuracy:.1%})"
