"""Small seeded encoders, and a block computed operation by operation, for the tests of the native encoder."""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from kernels import native
from kernels.attention import group_equal
from kernels.attention_i8.native import attention
from kernels.encoder import BlockShape, BlockWeights, EmbeddingWeights, NormWeights
from kernels.linear_i4 import native as linear_i4
from kernels.linear_i4.reference import Int4Weight
from kernels.linear_i8.native import GELU, PLAIN, linear, pack_weight
from kernels.linear_i8.reference import Int8Weight
from kernels.native import address, binding

WORDS = 11
POSITIONS = 20
GENERATOR = torch.Generator().manual_seed(0)

Pack = Callable[[int, int], Tensor]


def norm(width: int, *, in_scale: bool = True) -> NormWeights:
    in_scale_D = torch.rand(width, generator=GENERATOR) + 0.5 if in_scale else None
    return NormWeights(torch.ones(width), torch.zeros(width), 1e-6, in_scale_D)


def packed(num_out: int, num_in: int) -> Tensor:
    q_NK = torch.randint(-127, 128, (num_out, num_in), dtype=torch.int8, generator=GENERATOR)
    return pack_weight(Int8Weight.of(q_NK, torch.full((num_out,), 0.002), None))


def packed_i4(num_out: int, num_in: int) -> Tensor:
    hi_NJ = torch.randint(0, 256, (num_out, num_in // 2), dtype=torch.uint8, generator=GENERATOR)
    m_NG = torch.randint(1, 17, (num_out, num_in // 64), dtype=torch.uint8, generator=GENERATOR)
    return linear_i4.pack_weight(Int4Weight(hi_NJ, m_NG, torch.full((num_out,), 0.002), None))


def block(width: int, shape: BlockShape, pack: Pack = packed, *, in_scale: bool = True) -> BlockWeights:
    mixed = shape.heads * shape.head_width
    return BlockWeights(
        shape,
        qkv=pack(mixed + 2 * shape.kv_heads * shape.head_width, width),
        out=pack(width, mixed),
        norm1=norm(width, in_scale=in_scale),
        up=pack(shape.inner, width),
        down=pack(width, shape.inner),
        norm2=norm(width, in_scale=in_scale),
    )


def embedding(width: int, *, in_scale: bool = True) -> EmbeddingWeights:
    return EmbeddingWeights(
        torch.randint(-127, 128, (WORDS, width), dtype=torch.int8, generator=GENERATOR),
        torch.full((WORDS,), 0.01),
        torch.randn(POSITIONS, width, generator=GENERATOR),
        norm(width, in_scale=in_scale),
    )


def sequences(lengths: list[int]) -> tuple[Tensor, list[int]]:
    """Returns ids and offsets."""
    offsets = [0, *accumulate(lengths)]
    return torch.randint(0, WORDS, (offsets[-1],), generator=GENERATOR), offsets


def run_block(x_TD: Tensor, weights: BlockWeights, offsets: list[int], isa: str) -> Tensor:
    """Returns x_TD after the block, one native operation after the other; its norms have no in_scale."""
    shape = weights.shape
    width = x_TD.shape[1]
    mixed = shape.heads * shape.head_width
    qkv_TW = linear(x_TD, weights.qkv, mixed + 2 * shape.kv_heads * shape.head_width, isa=isa, epilogue=PLAIN)
    groups = group_equal(offsets)
    mixed_TX = attention(qkv_TW, groups, num_heads=shape.heads, num_kv_heads=shape.kv_heads, isa=isa)
    x_TD = x_TD + linear(mixed_TX, weights.out, width, isa=isa, epilogue=PLAIN)
    x_TD = _normalised(x_TD, weights.norm1, isa)
    inner_TF = linear(x_TD, weights.up, shape.inner, isa=isa, epilogue=GELU)
    return _normalised(x_TD + linear(inner_TF, weights.down, width, isa=isa, epilogue=PLAIN), weights.norm2, isa)


def _normalised(x_TD: Tensor, weights: NormWeights, isa: str) -> Tensor:
    native.kernels(isa).norm_rows(address(x_TD), binding.Shape(*x_TD.shape), weights.native("norm", x_TD.shape[1]))
    return x_TD
