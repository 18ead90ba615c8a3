import pytest

from learner.gate import Limits, refusals
from wire.records import Evaluation

LIMITS = Limits(min_held_back=50, accuracy_tolerance=0.02, min_parity_cosine=0.98, min_parity_agreement=0.9)
NAN = float("nan")


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        (Evaluation(), []),
        (Evaluation(num_labels=50, accuracy=0.9, parent_accuracy=0.9), []),
        (Evaluation(num_labels=50, accuracy=0.885, parent_accuracy=0.9), []),
        (Evaluation(num_labels=50, accuracy=0.87, parent_accuracy=0.9), ["worse_than_parent"]),
        (Evaluation(num_labels=49, accuracy=0.1, parent_accuracy=0.9), []),
        (Evaluation(parity_cosine=0.97), ["parity_cosine"]),
        (Evaluation(parity_agreement=0.89), ["parity_agreement"]),
        (Evaluation(parity_cosine=NAN, parity_agreement=NAN), ["parity_cosine", "parity_agreement"]),
        (Evaluation(num_labels=50, accuracy=NAN), ["worse_than_parent"]),
    ],
)
def test_each_reason_is_named(evaluation: Evaluation, expected: list[str]) -> None:
    assert refusals(evaluation, LIMITS, is_finite=True) == expected


def test_weights_that_are_not_finite_are_refused() -> None:
    assert refusals(Evaluation(), LIMITS, is_finite=False) == ["not_finite"]
