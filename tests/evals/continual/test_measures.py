import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.continual.measures import Row, backward_transfer, final_accuracy, forgetting


@pytest.mark.parametrize(
    ("matrix", "points"),
    [
        ([], 0.0),
        ([(90.0,)], 0.0),
        ([(90.0,), (80.0, 70.0)], 10.0),
        ([(90.0,), (95.0, 80.0), (94.0, 60.0, 99.0)], 10.5),  # (95 - 94 + 80 - 60) / 2
        ([(50.0,), (80.0, 70.0)], 0.0),  # what got better was not forgotten
    ],
)
def test_forgetting_is_the_best_minus_the_last(matrix: list[Row], points: float) -> None:
    assert forgetting(matrix) == pytest.approx(points)


@given(st.lists(st.lists(st.floats(0, 100), min_size=6, max_size=6), min_size=1, max_size=6))
def test_forgetting_is_between_0_and_100(rows: list[list[float]]) -> None:
    points = forgetting([tuple(row[: number + 1]) for number, row in enumerate(rows)])
    assert points >= 0.0
    assert points <= 100.0


def test_backward_transfer_is_the_mean_change_by_later_stages() -> None:
    assert backward_transfer([(90.0,), (95.0, 80.0), (94.0, 60.0, 99.0)]) == pytest.approx((4.0 - 20.0) / 2)
    assert final_accuracy([(90.0,), (80.0, 70.0)]) == 75.0
