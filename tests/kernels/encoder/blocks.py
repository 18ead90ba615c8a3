"""Small seeded encoders, and a block computed operation by operation, for the tests of the native encoder."""

from collections.abc import Callable
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from kernels import native
from kernels.attention import group_equal
from kernels.attention_i8.native import attention
from kernels.encoder import BlockShape, BlockWeights, EmbeddingWeights, MatrixWeights, NormWeights, RotaryWeights
from kernels.linear_i4 import native as linear_i4
from kernels.linear_i4.reference import Int4Weight
from kernels.linear_i8.native import GELU, linear, pack_weight
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


def matrix(num_out: int, num_in: int, pack: Pack = packed, *, rank: int = 0) -> MatrixWeights:
    lora = (packed(rank, num_in), packed(num_out, rank)) if rank else None
    return MatrixWeights(pack(num_out, num_in), None, lora)


def block(
    width: int, shape: BlockShape, pack: Pack = packed, *, in_scale: bool = True, ranks: tuple[int, ...] = (0, 0, 0, 0)
) -> BlockWeights:
    mixed = shape.heads * shape.head_width
    qkv_rows = mixed + 2 * shape.kv_heads * shape.head_width
    shapes = [(qkv_rows, width), (width, mixed), (shape.inner, width), (width, shape.inner)]
    qkv, out, up, down = (matrix(*each, pack, rank=rank) for each, rank in zip(shapes, ranks, strict=True))
    norms = [norm(width, in_scale=in_scale) for _ in range(2)]
    return BlockWeights(shape, qkv=qkv, out=out, norm1=norms[0], up=up, down=down, norm2=norms[1])


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


def added(y_TN: Tensor, x_TK: Tensor, weights: MatrixWeights, isa: str) -> Tensor:
    """Returns y_TN plus the product of x_TK: first its low-rank addition, if there is one."""
    num_out = y_TN.shape[1]
    if weights.lora is not None:
        a, b = weights.lora
        y_TN = y_TN + linear(linear(x_TK, a, weights.rank, isa=isa), b, num_out, isa=isa)
    return y_TN + linear(x_TK, weights.packed, num_out, isa=isa)


def run_block(x_TD: Tensor, weights: BlockWeights, offsets: list[int], isa: str) -> Tensor:
    """Returns x_TD after the block, one native operation after the other; its norms have no in_scale."""
    shape = weights.shape
    qkv_TW = added(
        torch.zeros(len(x_TD), (shape.heads + 2 * shape.kv_heads) * shape.head_width), x_TD, weights.qkv, isa
    )
    groups = group_equal(offsets)
    if weights.rotary is not None:
        qkv_TW = rotated(qkv_TW, weights.rotary, offsets, shape.heads + shape.kv_heads)
    heads = {"num_heads": shape.heads, "num_kv_heads": shape.kv_heads}
    mixed_TX = attention(qkv_TW, groups, **heads, spans=shape.spans, isa=isa)
    x_TD = normalised(added(x_TD, mixed_TX, weights.out, isa), weights.norm1, isa)
    inner_TF = linear(x_TD, weights.up.packed, shape.inner, isa=isa, epilogue=GELU)
    return normalised(added(x_TD, inner_TF, weights.down, isa), weights.norm2, isa)


def rotated(qkv_TW: Tensor, rotary: RotaryWeights, offsets: list[int], num_rotated: int) -> Tensor:
    positions_T = torch.cat([torch.arange(end - start) for start, end in pairwise(offsets)])
    cos_T1C = rotary.cos_PC[positions_T, None]
    sin_T1C = rotary.sin_PC[positions_T, None]
    num_channels = cos_T1C.shape[2]
    width = 2 * num_rotated * num_channels
    low_THC, high_THC = qkv_TW[:, :width].view(-1, num_rotated, 2, num_channels).unbind(2)
    turned = (low_THC * cos_T1C - high_THC * sin_T1C, high_THC * cos_T1C + low_THC * sin_T1C)
    return torch.cat((torch.cat(turned, dim=2).flatten(1), qkv_TW[:, width:]), dim=1)


def normalised(x_TD: Tensor, weights: NormWeights | None, isa: str) -> Tensor:
    assert weights is not None
    native.kernels(isa).norm_rows(address(x_TD), binding.Shape(*x_TD.shape), weights.native("norm", x_TD.shape[1]))
    return x_TD
