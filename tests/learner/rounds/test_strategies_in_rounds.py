from collections.abc import Sequence
from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learner.config import SlowStrategy
from learner.errors import DataError
from learner.rounds.strategies import MAKERS, Outputs, Strategy, draws_per_step, make_strategy, own_strategy
from tests.learner.rounds.checks import PLACES, Places, check_strategy


def test_every_strategy_has_a_maker() -> None:
    assert MAKERS.keys() == {*get_args(SlowStrategy)}


class Halved(Strategy):
    """A user's strategy: half of the loss of the new samples, and one draw that it does not use."""

    num_draws = 1

    def __init__(self, *, loss_q: float = 0.0, factor: float = 0.5) -> None:
        super().__init__(loss_q=loss_q)
        self._factor = factor

    def loss(self, fresh: Outputs, draws: Sequence[Outputs]) -> Tensor:
        if self._factor < 0:
            raise ValueError("the factor is negative")
        return self._factor * self.class_loss(fresh)


def test_a_strategy_of_a_user_is_made_by_its_import_path() -> None:
    name = f"{__name__}:{Halved.__name__}(factor=0.25)"
    assert draws_per_step(name) == 1
    weight = torch.tensor([[1.0, 0.0]], requires_grad=True)
    outputs = Outputs(weight * 2, torch.tensor([0]))
    ours = Outputs(weight.detach() * 2, torch.tensor([0]))
    loss = make_strategy(name, loss_q=0.0).backward([weight], outputs, [])
    assert loss == pytest.approx(0.25 * float(Strategy().class_loss(ours)))
    assert weight.grad is not None


def test_errors_of_a_users_strategy_end_only_the_round() -> None:
    strategy = make_strategy(f"{__name__}:{Halved.__name__}(factor=-1)", loss_q=0.0)
    outputs = Outputs(torch.ones(1, 2, requires_grad=True), torch.tensor([0]))
    with pytest.raises(DataError, match=r"Halved\(factor=-1\) cannot learn a slow round: ValueError\('the factor"):
        strategy.backward([], outputs, [])
    with pytest.raises(DataError, match=r"cannot be made: .*unexpected keyword"):
        make_strategy(f"{__name__}:{Halved.__name__}(size=1)", loss_q=0.0)


def test_a_misspelt_strategy_is_refused() -> None:
    with pytest.raises(DataError, match="does not import"):
        make_strategy("er.Ace", loss_q=0.5)
    assert own_strategy("collections:Counter") is None and own_strategy("avalanche-replay") is None


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
    # An empty replay buffer gives no draws.
    num_draws = 0 if is_empty else draws_per_step(name)
    draws = [data.draw(PLACES) for _ in range(num_draws)]
    check_strategy(partial(make_strategy, name, loss_q=loss_q), data, fresh, draws, scale)
