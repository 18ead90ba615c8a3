"""Classes with few labels are predicted more often than by ridge regression; established ones as often as they come."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.fast.ridge import RidgeHead
from learner.fast.rows import ESTABLISHED, YOUNG, row_scales

R = 24
PHI_1R = torch.relu(torch.randn(1, R, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("num_a", "num_b", "factor"),
    [
        pytest.param(60, 30, (45 / 30) ** 0.5, id="both are hardly known"),
        pytest.param(2 * ESTABLISHED - YOUNG, YOUNG, (ESTABLISHED / YOUNG) ** 0.5, id="one is hardly known"),
        pytest.param(3_840, 256, 8**0.25, id="one is between"),
        pytest.param(6 * ESTABLISHED, 2 * ESTABLISHED, 1, id="both are well known"),
    ],
)
def test_a_class_is_predicted_more_often_than_it_comes_until_it_is_established(
    num_a: int, num_b: int, factor: float
) -> None:
    head = RidgeHead(R, 8, penalty=0.01)
    assert head.admit("a") and head.admit("b")
    head.learn_many(PHI_1R.expand(num_a + num_b, R), ["a"] * num_a + ["b"] * num_b)
    of_a, of_b = head.predict_many(PHI_1R)[0].tolist()
    assert of_b / of_a == pytest.approx(factor * num_b / num_a, rel=1e-3)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_more_labels_are_never_a_larger_factor(counts: list[int]) -> None:
    scales_C = row_scales(torch.tensor(sorted(counts)))
    assert (scales_C > 0).all() and (scales_C.diff() <= 0).all()
    known = [scale for scale, count in zip(scales_C.tolist(), sorted(counts), strict=True) if count >= ESTABLISHED]
    assert set(known) <= {1.0} and scales_C.min() == 1.0
