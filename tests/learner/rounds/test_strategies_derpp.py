import math

import pytest
import torch

from learner.rounds.strategies import DarkReplay
from tests.learner.rounds.outputs import outputs, weights


def cross_entropy(logits: list[float], label: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[label]


ROW_0 = [0.1, -0.3, 0.5]
ROW_1 = [-0.15, -0.55, 0.85]
ROW_3 = [0.2, 0.4, -0.6]


def test_the_loss_is_equation_6() -> None:
    w_CD = weights()
    draws = [outputs(w_CD, 1, before=0.25), outputs(w_CD, 3, before=9.0)]
    dark = sum((value - 0.25) ** 2 for value in ROW_1) / 3
    expected = cross_entropy(ROW_0, 0) + 0.2 * dark + 0.5 * cross_entropy(ROW_3, 1)
    assert DarkReplay(alpha=0.2, beta=0.5).loss(outputs(w_CD, 0), draws).item() == pytest.approx(expected, rel=1e-5)


def test_the_asymmetric_form_masks_the_fresh_samples_only() -> None:
    w_CD = weights()
    draws = [outputs(w_CD, 1, before=0.25), outputs(w_CD, 3, before=9.0)]
    symmetric = DarkReplay(alpha=0.2, beta=0.5)
    asymmetric = DarkReplay(alpha=0.2, beta=0.5, is_asymmetric=True)
    difference = symmetric.loss(outputs(w_CD, 0), draws) - asymmetric.loss(outputs(w_CD, 0), draws)
    assert difference.item() == pytest.approx(cross_entropy(ROW_0, 0), rel=1e-5)


def test_without_a_buffer_the_fresh_samples_are_learnt() -> None:
    w_CD = weights()
    loss = DarkReplay(alpha=0.2, beta=0.5).loss(outputs(w_CD, 0), [])
    assert loss.item() == pytest.approx(cross_entropy(ROW_0, 0), rel=1e-5)


def test_stored_outputs_get_no_gradient() -> None:
    w_CD = weights()
    stored_BC = torch.zeros(1, 3)
    dark = outputs(w_CD, 1)._replace(before_BC=stored_BC)
    DarkReplay(alpha=1.0, beta=0.0).backward([w_CD], outputs(w_CD, 0), [dark, outputs(w_CD, 3)])
    assert stored_BC.grad is None and w_CD.grad is not None
