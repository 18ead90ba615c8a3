"""The gate: decides whether weights may be published. A pure function of what was measured; no refusals mean yes.

A version is compared with its parent and with the anchor, on the same holdout samples, so a stream that gets harder
causes no refusal. In either comparison a version is refused where it is worse overall, on one class, or on the classes
of one cohort. Accuracy counts as worse only if it is lower by more than the tolerance and also by more than chance
explains: with ten samples, a single one is a tenth of the accuracy. Each refusal has a stable code, which is counted.

Rejected: one test of all classes together (chi-squared says that something changed, not that it got worse), and limits
without a test (a class of seven holdout samples loses 14 points with one of them).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from learner.config import LearnerConfig
from learner.quality.comparison import Comparison, Paired
from learner.quality.evaluation import MeasuredCandidate
from wire.records import PrecisionEvaluation

FALSE_ALARM = 1e-3
"""Probability that a comparison refuses a version which is as good as the other. A learner publishes every second."""

ADOPTION_SIGMAS = 2.0
"""The encoder of a slow round is dropped when it is worse by more standard errors than this. A bound of one would drop
every eighth encoder that is as good: two samples lost and none won are enough for it."""

MIN_CLASS_SAMPLES = 5
"""A class that lost all of so many samples or more is forgotten. Clean streams lose 2 samples in 100, and so five of
five never by chance."""

FLIPS_OF_WRONG = 0.25
"""Share of negative flips that is allowed for each wrong sample of the parent. Where most samples are named wrongly, as
of thousands of classes with a few labels each, most are close to another class, and each version flips many: as many as
17 of 100 where 28 were right and 32 are. Where one is refused for that, the next has learnt more and flips more."""

MIN_NAMED = 16
"""A version that names one class for so many samples or more has collapsed, if its parent named more classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLimits:
    """What a version must reach. The fields are those of `LearnerConfig` with the same names."""

    min_holdout: int
    accuracy_tolerance: float
    max_negative_flips: float
    max_head_update: float
    max_top_update: float
    min_parity_cosine: float
    min_parity_agreement: float

    @classmethod
    def of(cls, config: LearnerConfig, *, max_loss: float | None = None) -> "GateLimits":
        """Returns the limits that the settings name. With `max_loss` so much may be lost, whatever they say."""
        if max_loss is not None:
            flips = config.max_negative_flips + max_loss
            return replace(cls.of(config), accuracy_tolerance=max_loss, max_negative_flips=flips)
        return cls(
            min_holdout=config.min_holdout,
            accuracy_tolerance=config.accuracy_tolerance,
            max_negative_flips=config.max_negative_flips,
            max_head_update=config.max_head_update,
            max_top_update=config.max_top_update,
            min_parity_cosine=config.min_parity_cosine,
            min_parity_agreement=config.min_parity_agreement,
        )


def refusals(measured: MeasuredCandidate, best: PrecisionEvaluation, limits: GateLimits) -> list[str]:
    """Returns every reason against publishing. `best` is the evaluation of the best precision.

    Whether a cheaper precision may answer is decided by the replica that would use it.

    >>> limits = GateLimits(
    ...     min_holdout=9, accuracy_tolerance=0.02, max_negative_flips=0.1, max_head_update=5.0, max_top_update=0.5,
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
        "cohort_worse_than_parent": is_worse(parent, parent.cohorts, limits),
        "worse_than_anchor": is_worse(anchor, [anchor.overall], limits),
        "class_worse_than_anchor": is_worse_somewhere(anchor, limits),
        "cohort_worse_than_anchor": is_worse(anchor, anchor.cohorts, limits),
        "negative_flips": has_flipped(parent.overall, limits),
        "head_update": not measured.head_update <= limits.max_head_update,
        "top_update": not measured.top_update <= limits.max_top_update,
        "average_precision": has_worse_ranking(measured, limits),
        "parity_cosine": not best.cosine >= limits.min_parity_cosine,
        "parity_agreement": not best.agreement >= limits.min_parity_agreement,
    }
    return [reason for reason, holds in reasons.items() if holds]


def is_worse(comparison: Comparison, groups: Sequence[Paired], limits: GateLimits) -> bool:
    """Whether one of `groups` got worse by more than the tolerance and by more than chance explains in so many."""
    if comparison.overall.num < limits.min_holdout:
        return False
    sigmas = sigmas_for(sum(group.num > 0 for group in groups))
    return any(
        group.drop > limits.accuracy_tolerance and is_worse_beyond_chance(group.lost, group.won, sigmas=sigmas)
        for group in groups
    )


def is_worse_somewhere(comparison: Comparison, limits: GateLimits) -> bool:
    """Whether a class got worse, or was forgotten. Of a class with few samples only the latter can be told."""
    is_enough = comparison.overall.num >= limits.min_holdout
    has_forgotten = any(is_forgotten(paired) for paired in comparison.classes)
    return (is_enough and has_forgotten) or is_worse(comparison, comparison.classes, limits)


def is_forgotten(paired: Paired) -> bool:
    """Whether every sample of a class that was right is wrong now, and none the other way round."""
    return paired.right >= MIN_CLASS_SAMPLES and paired.lost == paired.right and not paired.won


def has_worse_ranking(measured: MeasuredCandidate, limits: GateLimits) -> bool:
    """Whether a class of a higher weight is ranked worse, beyond the tolerance and beyond chance."""
    sigmas = sigmas_for(len(measured.ranked))
    return any(ranked.is_worse(limits.accuracy_tolerance, sigmas) for ranked in measured.ranked.values())


def has_flipped(overall: Paired, limits: GateLimits) -> bool:
    """Whether more samples were lost than the bound allows, beyond chance. Samples that were won do not count."""
    share = max(limits.max_negative_flips, FLIPS_OF_WRONG * (1 - overall.accuracy_before))
    bound = share * overall.num
    return overall.num >= limits.min_holdout and overall.lost > bound + sigmas_for(1) * math.sqrt(bound)


def is_collapsed(measured: MeasuredCandidate) -> bool:
    """Whether the version names one class for everything, where its parent named more."""
    names_one = measured.num_labels >= MIN_NAMED and measured.num_named == 1
    return names_one and measured.num_named_by_parent > 1


def is_worse_beyond_chance(num_lost: int, num_won: int, *, sigmas: float = 1.0) -> bool:
    """Whether more samples were lost than won, by more than `sigmas` standard errors: McNemar's test (1947).

    Where neither version is better, both counts have the same expectation.

    >>> is_worse_beyond_chance(5, 3), is_worse_beyond_chance(8, 1), is_worse_beyond_chance(8, 1, sigmas=3)
    (False, True, False)
    """
    return num_lost - num_won > sigmas * math.sqrt(num_lost + num_won)


def may_adopt(num_lost: int, num_won: int, *, is_complete: bool) -> bool:
    """Whether the encoder of a slow round is adopted: unless it is worse than the current one, beyond chance.

    Where the memory is not complete, carrying over what it does not hold loses a little of that, each time less than
    the holdout shows. So an encoder has to be better there.

    >>> may_adopt(2, 1, is_complete=True), may_adopt(0, 0, is_complete=False), may_adopt(2, 3, is_complete=False)
    (True, False, True)
    """
    if is_complete:
        return not is_worse_beyond_chance(num_lost, num_won, sigmas=ADOPTION_SIGMAS)
    return num_won > num_lost


def sigmas_for(num_tests: int) -> float:
    """Standard errors that one of `num_tests` comparisons exceeds by chance with probability FALSE_ALARM (Bonferroni).

    >>> round(sigmas_for(1), 1), round(sigmas_for(150), 1)
    (3.1, 4.4)
    """
    return -NormalDist().inv_cdf(FALSE_ALARM / max(num_tests, 1))
