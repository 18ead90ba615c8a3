"""The head in full precision and as stored."""

from dataclasses import replace

import pytest
import torch

from model.config import MINILM_L6
from model.errors import WrongShape
from model.head import OUT, PROJ, features, logits, out_weight, proj_weight, projection
from tests.model.small_encoder import SMALL


def test_projection_is_pinned() -> None:
    proj_RD = projection(SMALL)
    assert proj_RD.shape == (48, 64)
    assert proj_RD[0, :3].tolist() == pytest.approx([1.7640524, 0.4001572, 0.9787380])
    assert torch.equal(proj_RD, projection(SMALL))
    assert not torch.equal(proj_RD, projection(SMALL, seed=1))


def test_projection_is_standard_normal() -> None:
    proj_RD = projection(MINILM_L6)
    assert abs(proj_RD.mean()) < 0.01
    assert abs(proj_RD.std() - 1) < 0.01


def test_logits_by_hand() -> None:
    z_BD = torch.tensor([[1.0, 2.0]])
    proj_RD = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert features(z_BD, proj_RD).tolist() == [[1.0, 0.0, 2.0]]
    out_CR = torch.tensor([[1.0, 9.0, 1.0], [0.0, 0.0, -1.0]])
    bias_C = torch.tensor([0.5, 0.0])
    assert logits(z_BD, proj_RD, out_CR, bias_C).tolist() == [[3.5, -2.0]]


def test_stored_projection() -> None:
    stored = proj_weight(SMALL)
    assert (stored.name, stored.shape) == (PROJ, (48, 64))
    assert (stored.dequantize() - projection(SMALL)).abs().max() < 0.02


def test_stored_rows_are_filled_up_to_the_capacity() -> None:
    stored = out_weight(SMALL, torch.ones(3, 48), torch.tensor([1.0, 2.0, 3.0]))
    assert (stored.name, stored.shape) == (OUT, (8, 48))
    assert stored.bias is not None and stored.bias.tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert not stored.parts["q"][3:].any()


def test_more_classes_than_capacity() -> None:
    with pytest.raises(WrongShape, match=r"\(9, 48\) and bias \(9,\); expected \[C, 48\] and \[C\] with C <= 8"):
        out_weight(SMALL, torch.ones(9, 48), torch.ones(9))
    assert out_weight(replace(SMALL, label_capacity=9), torch.ones(9, 48), torch.ones(9)).shape == (9, 48)
