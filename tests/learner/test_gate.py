import pytest

from learner.gate import Limits, refusals
from wire.records import Evaluation, PrecisionEvaluation

LIMITS = Limits(min_held_back=50, accuracy_tolerance=0.02, min_parity_cosine=0.98, min_parity_agreement=0.9)
NAN = float("nan")
GOOD = PrecisionEvaluation(name="int8", cosine=0.98, agreement=0.9)


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        (Evaluation(), []),
        (Evaluation(num_labels=50, accuracy=0.9, parent_accuracy=0.9), []),
        (Evaluation(num_labels=50, accuracy=0.885, parent_accuracy=0.9), []),
        (Evaluation(num_labels=50, accuracy=0.87, parent_accuracy=0.9), ["worse_than_parent"]),
        (Evaluation(num_labels=49, accuracy=0.1, parent_accuracy=0.9), []),
        (Evaluation(num_labels=50, accuracy=NAN), ["worse_than_parent"]),
    ],
)
def test_each_reason_is_named(evaluation: Evaluation, expected: list[str]) -> None:
    assert refusals(evaluation, GOOD, LIMITS, is_finite=True) == expected


def test_weights_that_are_not_finite_are_refused() -> None:
    assert refusals(Evaluation(), GOOD, LIMITS, is_finite=False) == ["not_finite"]


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
    assert refusals(Evaluation(), best, LIMITS, is_finite=True) == expected
