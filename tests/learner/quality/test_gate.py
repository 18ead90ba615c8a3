"""The measurements for which the gate refuses a candidate, and those for which it must not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.quality.class_weights import RankedClass
from learner.quality.comparison import Comparison, Paired
from learner.quality.evaluation import MeasuredCandidate
from learner.quality.gate import GateLimits, refusals
from wire.records import PrecisionEvaluation

LIMITS = GateLimits(
    min_holdout=50,
    accuracy_tolerance=0.02,
    max_negative_flips=0.05,
    max_head_update=2.0,
    max_top_update=0.5,
    min_parity_cosine=0.98,
    min_parity_agreement=0.9,
)
NAN = float("nan")
GOOD = PrecisionEvaluation(name="int8", cosine=0.98, agreement=0.9)
SAME = Paired(num=100, right=90)
WORSE = Paired(num=100, right=90, lost=14, won=1)


def refused(limits: GateLimits = LIMITS, **measured: Any) -> list[str]:
    return refusals(MeasuredCandidate(**measured), GOOD, limits)


@pytest.mark.parametrize(
    ("overall", "expected"),
    [
        (Paired(), []),
        (SAME, []),
        (Paired(num=1000, right=900, lost=40, won=20), []),  # just within the tolerance
        (Paired(num=1000, right=900, lost=46, won=22), []),  # more, but 46 of 68 changes is within chance
        (Paired(num=1000, right=900, lost=45, won=10), ["worse_than_parent"]),
        (Paired(num=60, right=50, lost=8), []),  # by chance once in 256 times
        (Paired(num=60, right=50, lost=11), ["worse_than_parent", "negative_flips"]),
        (Paired(num=49, right=49, lost=49), []),  # too few samples for a decision
    ],
)
def test_worse_than_the_parent_is_more_than_is_tolerated_and_more_than_chance(
    overall: Paired, expected: list[str]
) -> None:
    assert refused(parent=Comparison(overall=overall)) == expected


def test_a_slow_decline_is_seen_beside_the_anchor() -> None:
    little = Comparison(overall=Paired(num=1000, right=900, lost=14, won=4))
    much = Comparison(overall=Paired(num=1000, right=950, lost=64, won=4))
    assert refused(parent=little, anchor=little) == []
    assert refused(parent=little, anchor=much) == ["worse_than_anchor"]


def test_a_class_with_enough_samples_may_not_get_worse() -> None:
    parent = Comparison(overall=Paired(num=1000, right=900, lost=20, won=18), classes=(*[SAME] * 9, WORSE))
    # Among ten classes, one does this by chance too often.
    assert refused(parent=parent) == []
    worse = (*[SAME] * 9, Paired(num=100, right=90, lost=18, won=1))
    assert refused(parent=replace(parent, classes=worse)) == ["class_worse_than_parent"]
    assert refused(anchor=replace(parent, classes=worse)) == ["class_worse_than_anchor"]


@pytest.mark.parametrize(
    ("small", "is_refused"),
    [
        (Paired(num=7, right=5, lost=5), True),
        (Paired(num=7, right=4, lost=4), False),
        (Paired(num=7, right=7, lost=6), False),
        (Paired(num=7, right=5, lost=5, won=1), False),
    ],
)
def test_of_a_class_with_few_samples_only_its_loss_is_seen(small: Paired, is_refused: bool) -> None:
    parent = Comparison(overall=Paired(num=1000, right=900, lost=10, won=8), classes=(Paired(7, 6), small) * 75)
    assert refused(parent=parent) == (["class_worse_than_parent"] if is_refused else [])


def test_the_oldest_classes_together_may_not_get_worse() -> None:
    cohorts = (Paired(num=200, right=190, lost=18, won=0), *[Paired(num=200, right=180, won=4)] * 4)
    overall = Paired(*(sum(counts) for counts in zip(*cohorts, strict=True)))
    assert refused(parent=Comparison(overall=overall, cohorts=cohorts)) == ["cohort_worse_than_parent"]


def test_many_flips_are_refused_even_if_as_many_are_won() -> None:
    assert refused(parent=Comparison(overall=Paired(num=1000, right=900, lost=80, won=90))) == ["negative_flips"]


def test_more_flips_are_allowed_if_most_samples_are_wrong() -> None:
    """With thousands of classes of a few labels each, narrow predictions flip often, in both directions."""
    assert refused(parent=Comparison(overall=Paired(num=1000, right=281, lost=171, won=210))) == []
    assert refused(parent=Comparison(overall=Paired(num=1000, right=781, lost=171, won=210))) == ["negative_flips"]
    assert refused(parent=Comparison(overall=Paired(num=1000, right=281, lost=231, won=231))) == ["negative_flips"]
    assert refused(parent=Comparison(overall=Paired(num=1000, right=900, lost=70, won=90))) == []


def test_one_class_for_everything_is_a_collapse_unless_the_parent_did_so() -> None:
    assert refused(num_labels=16, num_named=1, num_named_by_parent=2) == ["collapsed"]
    assert refused(num_labels=15, num_named=1, num_named_by_parent=2) == []
    assert refused(num_labels=16, num_named=1, num_named_by_parent=1) == []


@pytest.mark.parametrize(
    ("head", "top", "expected"),
    [
        (2.0, 0.5, []),
        (2.1, 0.1, ["head_update"]),
        (0.1, 0.6, ["top_update"]),
        (NAN, NAN, ["head_update", "top_update"]),
    ],
)
def test_weights_that_jump_are_refused(head: float, top: float, expected: list[str]) -> None:
    assert refused(head_update=head, top_update=top) == expected


def test_weights_that_are_not_finite_are_refused() -> None:
    assert refused(is_finite=False) == ["not_finite"]


@pytest.mark.parametrize(
    ("cosine", "agreement", "expected"),
    [
        (0.97, 1.0, ["parity_cosine"]),
        (1.0, 0.89, ["parity_agreement"]),
        (NAN, NAN, ["parity_cosine", "parity_agreement"]),
    ],
)
def test_a_best_precision_far_from_full_precision_is_refused(
    cosine: float, agreement: float, expected: list[str]
) -> None:
    best = PrecisionEvaluation(name="int8", cosine=cosine, agreement=agreement)
    assert refusals(MeasuredCandidate(), best, LIMITS) == expected


PAIRED = st.integers(0, 300).flatmap(
    lambda num: st.integers(0, num).flatmap(
        lambda right: st.builds(
            Paired, st.just(num), st.just(right), lost=st.integers(0, right), won=st.integers(0, num - right)
        )
    )
)


@settings(max_examples=200)
@given(st.lists(PAIRED, min_size=1, max_size=20))
def test_a_version_that_loses_nothing_is_never_refused_for_its_accuracy(groups: list[Paired]) -> None:
    better = tuple(paired._replace(lost=0) for paired in groups)
    comparison = Comparison(overall=better[0], classes=better, cohorts=better)
    assert refused(parent=comparison, anchor=comparison) == []


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        (RankedClass(0.70, 0.80, 0.01), ["average_precision"]),
        (RankedClass(0.70, 0.80, 0.05), []),  # by chance
        (RankedClass(0.79, 0.80, 0.001), []),  # within the tolerance
        (RankedClass(0.90, 0.80, 0.01), []),
    ],
)
def test_a_class_of_a_higher_weight_may_not_be_ranked_worse(ranked: RankedClass, expected: list[str]) -> None:
    assert refused(ranked={"fraud": ranked}) == expected
