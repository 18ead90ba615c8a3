"""Weights that do not fit are refused by name before anything is packed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.encoder import BlockShape, Encoder, NormWeights
from kernels.encoder.weights import contiguous
from tests.kernels.encoder.blocks import POSITIONS, WORDS, block, embedding, packed

WIDTH = 32
SHAPE = BlockShape(heads=2, kv_heads=1, head_width=16, inner=48)
EMBEDDING = embedding(WIDTH)
BLOCK = block(WIDTH, SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_V": torch.ones(WORDS + 1)}, "scale_V is"),
        ({"word_VD": EMBEDDING.word_VD.float()}, "word_VD is torch.float32"),
        ({"position_PD": torch.ones(POSITIONS, WIDTH * 2)[:, ::2]}, "position_PD is .*expected dense"),
        ({"norm": NormWeights(torch.ones(WIDTH), torch.ones(1), 1e-6)}, "norm.bias_D is"),
        ({"norm": NormWeights(torch.ones(16), torch.ones(16), 1e-6)}, "norm.gain_D is"),
    ],
)
def test_refuses_embeddings_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(replace(EMBEDDING, **change), [BLOCK])


@pytest.mark.parametrize("name", ["qkv", "out", "up", "down"])
@pytest.mark.parametrize("wrong", [packed(7, WIDTH), torch.zeros(4, dtype=torch.uint8), torch.zeros(64)])
def test_refuses_matrices_that_do_not_fit(name: str, wrong: Tensor) -> None:
    change: dict[str, Any] = {name: wrong}
    with pytest.raises(ValueError, match=rf"{name} is packed as .*; expected 8 or 4 bits"):
        Encoder(EMBEDDING, [replace(BLOCK, **change)])


@pytest.mark.parametrize("kv_heads", [0, 4, 12])
def test_refuses_kv_heads_that_do_not_divide_the_heads(kv_heads: int) -> None:
    with pytest.raises(ValueError, match=f"6 heads cannot share {kv_heads} kv heads evenly"):
        BlockShape(6, kv_heads, 16, 48)


def test_a_matrix_that_blocks_share_is_copied_once() -> None:
    first, second = contiguous([BLOCK, replace(block(WIDTH, SHAPE), qkv=BLOCK.qkv)])
    assert first.qkv.data_ptr() == second.qkv.data_ptr() != BLOCK.qkv.data_ptr()
    assert first.out.data_ptr() == first.qkv.data_ptr() + len(first.qkv)
    assert second.out.data_ptr() == first.down.data_ptr() + len(first.down)
    assert all(map(torch.equal, first.matrices, BLOCK.matrices))
