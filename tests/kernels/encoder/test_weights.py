"""Weights that do not fit are refused by name before anything is packed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.encoder import BlockShape, EncoderKernel, MatrixWeights
from kernels.encoder.weights import copy_contiguously
from tests.kernels.attention_i8.sequences import Keys
from tests.kernels.encoder.blocks import block, embedding, packed

WIDTH = 32
SHAPE = BlockShape(heads=2, kv_heads=1, head_width=16, inner=48)
EMBEDDING = embedding(WIDTH)
BLOCK = block(WIDTH, SHAPE)


@pytest.mark.parametrize("name", ["qkv", "out", "up", "down"])
@pytest.mark.parametrize("wrong", [packed(7, WIDTH), torch.zeros(4, dtype=torch.uint8), torch.zeros(64)])
def test_refuses_matrices_that_do_not_fit(name: str, wrong: Tensor) -> None:
    change: dict[str, Any] = {name: MatrixWeights(wrong)}
    with pytest.raises(ValueError, match=rf"{name} is packed as .*; expected 8 or 4 bits"):
        EncoderKernel(EMBEDDING, [replace(BLOCK, **change)])


@pytest.mark.parametrize("kv_heads", [0, 4, 12])
def test_refuses_kv_heads_that_do_not_divide_the_heads(kv_heads: int) -> None:
    with pytest.raises(ValueError, match=f"6 heads cannot share {kv_heads} kv heads evenly"):
        BlockShape(6, kv_heads, 16, 48)


def test_refuses_spans_that_do_not_fit_the_heads() -> None:
    with pytest.raises(ValueError, match="spans are of 3 heads; expected 4"):
        BlockShape(4, 4, 16, 48, ((3, Keys("local", window=4)),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora": (packed(8, 64), packed(32, 8))}, r"out.a is packed as \[8, 8, 64\]; expected 8 bits, 8 outputs, 32"),
        ({"lora": (packed(8, 32), packed(32, 9))}, r"out.b is packed as \[8, 32, 9\]; expected 8 bits, 32 outputs, 8"),
        ({"lora": (torch.zeros(3), packed(32, 9))}, r"out.a is packed as \[\]"),
        ({"bias_N": torch.zeros(31)}, "out.bias_N is"),
    ],
)
def test_refuses_what_a_layer_has_for_itself_if_it_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderKernel(EMBEDDING, [replace(BLOCK, out=replace(BLOCK.out, **change))])


def test_a_matrix_that_blocks_share_is_copied_once() -> None:
    first, second = copy_contiguously([BLOCK, replace(block(WIDTH, SHAPE), qkv=BLOCK.qkv)])
    assert first.qkv.packed.data_ptr() == second.qkv.packed.data_ptr() != BLOCK.qkv.packed.data_ptr()
    assert first.out.packed.data_ptr() == first.qkv.packed.data_ptr() + len(first.qkv.packed)
    assert second.out.packed.data_ptr() == first.down.packed.data_ptr() + len(first.down.packed)
    for found, expected in zip(first.matrices, BLOCK.matrices, strict=True):
        assert torch.equal(found.packed, expected.packed)
