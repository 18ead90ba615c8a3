"""Checks the properties that a step of each strategy has, on a network of one linear layer."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from learner.rounds.strategies import Strategy
from tests.learner.rounds.outputs import outputs, weights

LOGITS_BEFORE_BC = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5], [-2.0, 0.3, 0.1], [0.0, 4.0, 1.0]])
"""The logits of the rows from before the stage."""

Places: TypeAlias = list[int]
PLACES = st.lists(st.integers(0, 3), min_size=1, max_size=6)
"""The rows of the fresh samples, or of a draw; a draw is with replacement."""


def check_strategy(
    make: Callable[[], Strategy], data: st.DataObject, fresh: Places, draws: Sequence[Places], scale: float
) -> None:
    """Checks that a step sets finite gradients, and is deterministic and independent of the order of samples.

    The logits are `scale` times the logits of the network. The draws are as many as the strategy asks for, or none.
    """
    loss, gradient_CD = step(make(), fresh, draws, scale)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient_CD).all()
    assert not loss.requires_grad
    again, gradient_again_CD = step(make(), fresh, draws, scale)
    assert torch.equal(loss, again)
    assert torch.equal(gradient_CD, gradient_again_CD)
    shuffled = [data.draw(st.permutations(places)) for places in (fresh, *draws)]
    other, other_CD = step(make(), shuffled[0], shuffled[1:], scale)
    torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_CD, gradient_CD, rtol=1e-4, atol=1e-4 * scale)


def step(strategy: Strategy, fresh: Places, draws: Sequence[Places], scale: float) -> tuple[Tensor, Tensor]:
    """Returns the loss and the gradient of a step."""
    w_CD = weights()
    fresh_outputs, *draw_outputs = (
        outputs(scale * w_CD, *places)._replace(before_BC=LOGITS_BEFORE_BC[places]) for places in (fresh, *draws)
    )
    loss = strategy.backward([w_CD], fresh_outputs, draw_outputs)
    assert w_CD.grad is not None
    return loss, w_CD.grad
