"""Whether weights may be published: a pure function of what was measured. An empty list of refusals means yes.

A version is compared with its parent and with the anchor, on the same held-back samples, so a stream that gets harder
refuses nothing. What it must not be, in either comparison: worse all in all, worse on one class, worse on the classes
of one stage. Accuracy is worse only if it is lower by more than is tolerated and also by more than chance explains:
one sample in ten is a tenth of the accuracy. Each refusal has a stable code, which the loop counts.

Rejected: one test of all classes together (chi-squared says that something changed, not that it got worse), and limits
without a test (a class of seven held-back samples loses 14 points with one of them).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from learner.quality.comparison import Comparison, Paired
from learner.quality.evaluation import MeasuredCandidate
from wire.records import PrecisionEvaluation

FALSE_ALARM = 1e-3
"""Chance that a comparison refuses a version which is as good as the other. A learner publishes every second."""

MIN_CLASS_SAMPLES = 5
"""A class that lost all of so many samples is forgotten. Clean streams lose 2 in 100: five of five never by chance."""

MIN_NAMED = 16
"""Samples on which a version that names one class for all of them has collapsed, if its parent named more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLimits:
    """What a version must reach; the fields of `LearnerConfig` of the same names."""

    min_held_back: int
    accuracy_tolerance: float
    max_negative_flips: float
    max_head_update: float
    max_top_update: float
    min_parity_cosine: float
    min_parity_agreement: float


def refusals(measured: MeasuredCandidate, best: PrecisionEvaluation, limits: GateLimits) -> list[str]:
    """Every reason against publishing. `best`: what the best precision reaches; whether a cheaper one may answer is
    decided where it would.

    >>> limits = GateLimits(
    ...     min_held_back=9, accuracy_tolerance=0.02, max_negative_flips=0.1, max_head_update=5.0, max_top_update=0.5,
    ...     min_parity_cosine=0.98, min_parity_agreement=0.9,
    ... )
    >>> parent = Comparison(overall=Paired(num=100, right=60, lost=12, won=0))
    >>> refusals(MeasuredCandidate(parent=parent), PrecisionEvaluation(name="int8"), limits)
    ['worse_than_parent']
    """
    parent = measured.parent
    anchor = measured.anchor
    reasons = {
        "not_finite": not measured.is_finite,
        "collapsed": is_collapsed(measured),
        "worse_than_parent": is_worse(parent, [parent.overall], limits),
        "class_worse_than_parent": is_worse_somewhere(parent, limits),
        "stage_worse_than_parent": is_worse(parent, parent.stages, limits),
        "worse_than_anchor": is_worse(anchor, [anchor.overall], limits),
        "class_worse_than_anchor": is_worse_somewhere(anchor, limits),
        "stage_worse_than_anchor": is_worse(anchor, anchor.stages, limits),
        "negative_flips": has_flipped(parent.overall, limits),
        "head_update": not measured.head_update <= limits.max_head_update,
        "top_update": not measured.top_update <= limits.max_top_update,
        "parity_cosine": not best.cosine >= limits.min_parity_cosine,
        "parity_agreement": not best.agreement >= limits.min_parity_agreement,
    }
    return [reason for reason, holds in reasons.items() if holds]


def is_worse(comparison: Comparison, groups: Sequence[Paired], limits: GateLimits) -> bool:
    """Whether one of `groups` got worse by more than is tolerated and by more than chance explains in so many."""
    if comparison.overall.num < limits.min_held_back:
        return False
    sigmas = sigmas_for(sum(group.num > 0 for group in groups))
    return any(
        group.drop > limits.accuracy_tolerance and is_worse_beyond_chance(group.lost, group.won, sigmas=sigmas)
        for group in groups
    )


def is_worse_somewhere(comparison: Comparison, limits: GateLimits) -> bool:
    """Whether a class got worse, or was forgotten: with few samples of each class, only that can be told."""
    is_enough = comparison.overall.num >= limits.min_held_back
    is_forgotten = any(it.lost == it.right >= MIN_CLASS_SAMPLES and not it.won for it in comparison.classes)
    return (is_enough and is_forgotten) or is_worse(comparison, comparison.classes, limits)


def has_flipped(overall: Paired, limits: GateLimits) -> bool:
    """Whether more of the samples were lost than may be, whatever was won, beyond the chance in the number of them."""
    bound = limits.max_negative_flips * overall.num
    return overall.num >= limits.min_held_back and overall.lost > bound + sigmas_for(1) * math.sqrt(bound)


def is_collapsed(measured: MeasuredCandidate) -> bool:
    """Whether one class is named for everything, where the parent told classes apart."""
    return measured.num_labels >= MIN_NAMED and measured.num_named == 1 < measured.num_named_by_parent


def is_worse_beyond_chance(num_lost: int, num_won: int, *, sigmas: float = 1.0) -> bool:
    """Whether losing `num_lost` and winning `num_won` samples says that it got worse: by more than `sigmas` of chance.

    The two counts are all that a paired comparison has (McNemar 1947); without a change both come equally often.

    >>> is_worse_beyond_chance(5, 3), is_worse_beyond_chance(8, 1), is_worse_beyond_chance(8, 1, sigmas=3)
    (False, True, False)
    """
    return num_lost - num_won > sigmas * math.sqrt(num_lost + num_won)


def sigmas_for(num_tests: int) -> float:
    """Standard errors that one of `num_tests` comparisons exceeds by chance once in 1 / FALSE_ALARM (Bonferroni).

    >>> round(sigmas_for(1), 1), round(sigmas_for(150), 1)
    (3.1, 4.4)
    """
    return -NormalDist().inv_cdf(FALSE_ALARM / max(num_tests, 1))
