"""Whether weights may be published: a pure function of what was measured. An empty list of refusals means yes.

The comparison is with the parent on the same held-back samples, so a stream that gets harder refuses nothing. Each
refusal has a stable code, which the loop counts.
"""

import math
from dataclasses import dataclass

from wire.records import Evaluation, PrecisionEvaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a version must reach; the fields of `LearnerConfig` of the same names."""

    min_held_back: int
    accuracy_tolerance: float
    min_parity_cosine: float
    min_parity_agreement: float


def refusals(evaluation: Evaluation, best: PrecisionEvaluation, limits: Limits, *, is_finite: bool) -> list[str]:
    """Every reason against publishing. `best`: what the best precision reaches; whether a cheaper one may answer is
    decided where it would. `is_finite`: all weights and all logits of the probes are finite.

    >>> limits = Limits(min_held_back=9, accuracy_tolerance=0.02, min_parity_cosine=0.98, min_parity_agreement=0.9)
    >>> evaluation = Evaluation(num_labels=100, accuracy=0.5, parent_accuracy=0.6)
    >>> refusals(evaluation, PrecisionEvaluation(name="int8"), limits, is_finite=True)
    ['worse_than_parent']
    """
    reasons = {
        "not_finite": not is_finite,
        "worse_than_parent": is_worse(evaluation.accuracy, evaluation.parent_accuracy, evaluation.num_labels, limits),
        "parity_cosine": not best.cosine >= limits.min_parity_cosine,
        "parity_agreement": not best.agreement >= limits.min_parity_agreement,
    }
    return [reason for reason, holds in reasons.items() if holds]


def is_worse(accuracy: float, parent_accuracy: float, num_labels: int, limits: Limits) -> bool:
    """Whether the accuracy is lower than the parent's by more than is tolerated, on enough samples to say so."""
    return num_labels >= limits.min_held_back and not accuracy >= parent_accuracy - limits.accuracy_tolerance


def is_worse_beyond_chance(num_lost: int, num_won: int) -> bool:
    """Whether losing `num_lost` and winning `num_won` samples says that it got worse: by more than one standard error.

    The two counts are all that a paired comparison has (McNemar 1947); without a change both come equally often.

    >>> is_worse_beyond_chance(5, 3), is_worse_beyond_chance(8, 1)
    (False, True)
    """
    return num_lost - num_won > math.sqrt(num_lost + num_won)
