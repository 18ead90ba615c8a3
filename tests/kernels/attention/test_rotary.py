"""Rotated queries and keys: the score of two tokens depends only on their distance."""

import torch

from kernels.attention.rotary import rotate, rotations

HEAD = 16


def rotated(x_TD: torch.Tensor, first: int) -> torch.Tensor:
    """Returns one head with equal queries, keys and values, from position `first` on."""
    positions_T = torch.arange(first, first + len(x_TD))
    return rotate(x_TD.repeat(1, 3), positions_T, num_rotated=2, head_width=HEAD, base=10000.0)


def test_scores_depend_on_distances() -> None:
    x_TD = torch.randn(9, HEAD, generator=torch.Generator().manual_seed(0))
    scores = []
    for first in (0, 1000):
        qkv_TW = rotated(x_TD, first)
        scores.append(qkv_TW[:, :HEAD] @ qkv_TW[:, HEAD : 2 * HEAD].t())
    near, far = scores
    assert torch.allclose(near, far, atol=1e-3)
    assert not torch.allclose(near, x_TD @ x_TD.t(), atol=0.1)


def test_position_0_and_values_stay() -> None:
    x_TD = torch.randn(3, HEAD, generator=torch.Generator().manual_seed(1))
    qkv_TW = rotated(x_TD, 0)
    assert torch.equal(qkv_TW[0], x_TD[0].repeat(3))
    assert torch.equal(qkv_TW[:, 2 * HEAD :], x_TD)


def test_pairs_are_half_a_head_apart() -> None:
    cos_PC, sin_PC = rotations(8, HEAD, 100.0)
    unit_TD = torch.eye(HEAD)[[1]]
    row_W = rotate(unit_TD.repeat(1, 3), torch.tensor([5]), num_rotated=2, head_width=HEAD, base=100.0)[0]
    assert cos_PC.shape == (8, HEAD // 2)
    assert (row_W[1], row_W[1 + HEAD // 2]) == (cos_PC[5, 1], sin_PC[5, 1])
