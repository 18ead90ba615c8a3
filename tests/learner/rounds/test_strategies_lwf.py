import math

import pytest
import torch

from learner.rounds.strategies import Distillation, Outputs

NOW_BC = torch.tensor([[1.0, -1.0]])
LABELS_B = torch.tensor([1])


def test_the_loss_is_cross_entropy_plus_distillation() -> None:
    loss = Distillation(alpha=0.5).loss(Outputs(NOW_BC, LABELS_B, torch.tensor([[3.0, 1.0]])), [])
    now = 1 / (1 + math.exp(-1))
    # Both differ by 2, so they are equal at any temperature.
    before = 1 / (1 + math.exp(-1))
    assert now == before and loss.item() == pytest.approx(math.log(1 + math.exp(2)), rel=1e-5)
    loss = Distillation(alpha=0.5).loss(Outputs(NOW_BC, LABELS_B, torch.tensor([[-1.0, 1.0]])), [])
    p = 1 / (1 + math.exp(1))
    r = 1 / (1 + math.exp(-1))
    divergence = p * math.log(p / r) + r * math.log(r / p)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)) + 0.5 * 4 * divergence, rel=1e-5)


def test_the_first_stage_has_nothing_to_keep() -> None:
    loss = Distillation(alpha=0.5).loss(Outputs(NOW_BC, LABELS_B), [])
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)), rel=1e-5)
