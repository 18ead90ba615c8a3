"""The gate: lists the reasons to refuse a candidate, from its measurements. Without a reason, it is published. Pure.

A version is compared with its parent and with the anchor on the same holdout samples, so a stream that gets harder
causes no refusal. A version is refused if it is worse overall, on a single class, or on a cohort of classes. It is
worse if its accuracy fell by more than the tolerance, and by more than chance explains: with ten samples, a single one
is a tenth of the accuracy. Each reason has a stable code, and is counted under this code.

Rejected:

- One test of all classes together: chi-squared shows that something changed, not that it got worse.
- Limits without a test: a class of seven holdout samples loses 14 points if a single sample is lost.
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
"""The probability that a comparison refuses a version although it is as good as the other version. It is small because
a learner publishes every second."""

ADOPTION_SIGMAS = 2.0
"""The encoder of a slow round is dropped if it is worse by more than this many standard errors. With 1.0, every eighth
encoder that is equally good would be dropped, since two lost samples would suffice if none is won."""

MIN_CLASS_SAMPLES = 5
"""A class counts as forgotten if at least this many of its samples were right before, and all of these are wrong now.
In streams without drift 2 of 100 samples are lost, so five of five are not due to chance."""

FLIPS_OF_WRONG = 0.25
"""For each sample that the parent predicts wrongly, this many negative flips are allowed. If there are thousands of
classes with a few labels each, most predictions are wrong, most samples are close to another class, and each version
flips many of them: 17 of 100 if 28 were right before and 32 are right now. A refusal would not help, since the next
version has learnt more labels and flips even more samples."""

MIN_NAMED = 16
"""A version has collapsed if it predicts the same class for all of at least this many samples, and its parent did not.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLimits:
    """The limits that a version must meet to be published. Each is the setting of the same name in `LearnerConfig`."""

    min_holdout: int
    accuracy_tolerance: float
    max_negative_flips: float
    max_head_update: float
    max_top_update: float
    min_parity_cosine: float
    min_parity_agreement: float

    @classmethod
    def of(cls, config: LearnerConfig, *, max_loss: float | None = None) -> "GateLimits":
        """Returns the limits of the settings.

        `max_loss`, a loss of accuracy that an operator accepted, replaces the tolerance and allows as many more flips.
        """
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
    """Returns the codes of all reasons to refuse a candidate. `best` is the evaluation of its most accurate precision.

    Each replica decides whether a cheaper precision may answer.

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
    # Negated comparisons hold for NaN, too.
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
    """Returns whether one of `groups` got worse by more than the tolerance, and by more than chance explains.

    The more groups there are, the larger is the change that chance explains (Bonferroni).
    """
    if comparison.overall.num < limits.min_holdout:
        return False
    sigmas = sigmas_for(sum(group.num > 0 for group in groups))
    return any(
        group.drop > limits.accuracy_tolerance and is_worse_beyond_chance(group.lost, group.won, sigmas=sigmas)
        for group in groups
    )


def is_worse_somewhere(comparison: Comparison, limits: GateLimits) -> bool:
    """Returns whether some class got worse or was forgotten. For few samples, a test can only show the latter."""
    is_enough = comparison.overall.num >= limits.min_holdout
    has_forgotten = any(is_forgotten(paired) for paired in comparison.classes)
    return (is_enough and has_forgotten) or is_worse(comparison, comparison.classes, limits)


def is_forgotten(paired: Paired) -> bool:
    """Returns whether every sample of a class that was right before is wrong now, and no other sample became right."""
    return paired.right >= MIN_CLASS_SAMPLES and paired.lost == paired.right and not paired.won


def has_worse_ranking(measured: MeasuredCandidate, limits: GateLimits) -> bool:
    """Returns whether a weighted class is ranked worse, beyond the tolerance and beyond chance."""
    sigmas = sigmas_for(len(measured.ranked))
    return any(ranked.is_worse(limits.accuracy_tolerance, sigmas) for ranked in measured.ranked.values())


def has_flipped(overall: Paired, limits: GateLimits) -> bool:
    """Returns whether more samples were lost than the limit allows, by more than chance explains.

    Won samples do not count.
    """
    share = max(limits.max_negative_flips, FLIPS_OF_WRONG * (1 - overall.accuracy_before))
    bound = share * overall.num
    return overall.num >= limits.min_holdout and overall.lost > bound + sigmas_for(1) * math.sqrt(bound)


def is_collapsed(measured: MeasuredCandidate) -> bool:
    """Returns whether the version predicts one class for every sample, and its parent predicted more classes."""
    names_one = measured.num_labels >= MIN_NAMED and measured.num_named == 1
    return names_one and measured.num_named_by_parent > 1


def is_worse_beyond_chance(num_lost: int, num_won: int, *, sigmas: float = 1.0) -> bool:
    """Returns whether more samples were lost than won, by more than `sigmas` standard errors.

    This is McNemar's test (1947). If both versions are equally good, the two numbers have the same expectation.

    >>> is_worse_beyond_chance(5, 3), is_worse_beyond_chance(8, 1), is_worse_beyond_chance(8, 1, sigmas=3)
    (False, True, False)
    """
    return num_lost - num_won > sigmas * math.sqrt(num_lost + num_won)


def may_adopt(num_lost: int, num_won: int, *, is_complete: bool) -> bool:
    """Returns whether the encoder of a slow round is adopted, by the numbers of holdout samples that it lost and won.

    If the replay buffer has all samples (`is_complete`), an encoder is adopted unless it is worse beyond chance. If
    not, the head cannot be learnt again from all samples. Each adoption then loses a little, too little to be seen on
    the holdout. So the encoder has to be better than the current one.

    >>> may_adopt(2, 1, is_complete=True), may_adopt(0, 0, is_complete=False), may_adopt(2, 3, is_complete=False)
    (True, False, True)
    """
    if is_complete:
        return not is_worse_beyond_chance(num_lost, num_won, sigmas=ADOPTION_SIGMAS)
    return num_won > num_lost


def sigmas_for(num_tests: int) -> float:
    """Returns how many standard errors some of `num_tests` tests exceeds by chance, with probability FALSE_ALARM.

    This is the Bonferroni correction.

    >>> round(sigmas_for(1), 1), round(sigmas_for(150), 1)
    (3.1, 4.4)
    """
    return -NormalDist().inv_cdf(FALSE_ALARM / max(num_tests, 1))
