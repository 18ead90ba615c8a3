from functools import partial
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import SlowStrategy
from learner.slow.strategies.in_rounds import MAKERS, draws_per_step, make_strategy
from tests.learner.slow.strategies.checks import PLACES, Places, check_strategy


def test_every_strategy_has_a_maker() -> None:
    assert MAKERS.keys() == {*get_args(SlowStrategy)}


def test_a_misspelt_strategy_is_refused_by_the_type_checker() -> None:
    with pytest.raises(KeyError):
        make_strategy("er.ace", loss_q=0.5)  # type: ignore[arg-type]  # mypy says so where it is no error any more


@pytest.mark.parametrize("name", get_args(SlowStrategy))
@given(
    data=st.data(),
    fresh=PLACES,
    loss_q=st.sampled_from([0.0, 0.5, 1.0]),
    scale=st.sampled_from([1.0, 20.0, 1_000.0]),
    is_empty=st.booleans(),
)
def test_a_step_is_finite_and_independent_of_the_order_of_its_samples(
    name: SlowStrategy, data: st.DataObject, fresh: Places, loss_q: float, scale: float, is_empty: bool
) -> None:
    num_draws = 0 if is_empty else draws_per_step(name)  # an empty memory gives no draws
    draws = [data.draw(PLACES) for _ in range(num_draws)]
    check_strategy(partial(make_strategy, name, loss_q=loss_q), data, fresh, draws, scale)
