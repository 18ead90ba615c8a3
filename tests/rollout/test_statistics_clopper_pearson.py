"""The bound of a share, against closed forms and the sum that defines it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.statistics import exact_lower_bound, exact_upper_bound


@pytest.mark.parametrize("total", [1, 600, 920, 5_000])
def test_nothing_seen_has_a_closed_form(total: int) -> None:
    assert exact_upper_bound(0, total, 0.01) == pytest.approx(1 - 0.01 ** (1 / total))


def test_texts_that_bound_the_share_by_half_a_percent() -> None:
    """It takes 919 texts of which none is counted; of 2,000 there may be 2, and of 5,000 there may be 13."""
    assert exact_upper_bound(0, 918, 0.01) > 0.005 >= exact_upper_bound(0, 919, 0.01)
    assert exact_upper_bound(2, 2_000, 0.01) <= 0.005 < exact_upper_bound(3, 2_000, 0.01)
    assert exact_upper_bound(13, 5_000, 0.01) <= 0.005 < exact_upper_bound(14, 5_000, 0.01)


@given(st.integers(1, 300), st.data())
def test_so_few_have_the_chance_error_at_the_bound(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total - 1))
    share = exact_upper_bound(count, total, 0.01)
    chances = [math.comb(total, x) * share**x * (1 - share) ** (total - x) for x in range(count + 1)]
    assert sum(chances) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize(("count", "total"), [(0, 0), (7, 7)])
def test_where_all_are_counted_nothing_is_known(count: int, total: int) -> None:
    assert exact_upper_bound(count, total, 0.01) == 1.0


def test_the_lower_end_is_that_of_what_was_not_counted() -> None:
    assert exact_lower_bound(0, 2_000, 0.01) == 0.0
    assert exact_lower_bound(100, 2_000, 0.01) == pytest.approx(1.0 - exact_upper_bound(1_900, 2_000, 0.01))
    assert 0.03 < exact_lower_bound(100, 2_000, 0.01) < 0.05
