"""The definition of attention in 8-bit integers in plain torch, one sequence after another.

    q, k, v --integers--> q_HSD s8, k_HSD u8, v_HSD s8 --scores--> i16 --softmax--> p_HSS u8 --p v--> i32 --> out

    score = (q . k) >> shift                 p ~ 255 * 2**(-rate * (max - score)), max over the query's scores
    out = center_D + scale_D * (p v) / sum(p)

**Quantization.** Queries are symmetric: x ~ scale * q, with one scale a head. Keys have a minimum for each channel and
one scale a head: x ~ min_D + scale * q. As in SageAttention (Zhang et al., arXiv:2410.02367) keys are shifted before
they are rounded; a shift adds the same to all scores of a query, and a softmax does not see it. SageAttention shifts by
the mean. Here the shift is each channel's minimum, so that keys are unsigned, as the instruction of x86 requires of one
operand, and no zero point is left to correct. Values have a minimum and a scale for each channel and are stored
relative to the centre of their range: x ~ center_D + scale_D * q. The weights are divided by their sum, so the centre
is added once at the end.

**Scores.** Between the two products all numbers are 16-bit integers. A product is shifted right until it fits. The bits
that are lost by that are a tenth of the error that rounding queries and keys has already caused in a score.

**Fixed-point exp2.** The weights are powers of two: the factor log2(e) is part of `rate`. The exponent of a key is
(max - score) * rate, a 32-bit fixed-point number. Its upper 16 bits are the integer part, which becomes a shift to the
right. Its lower 16 bits are the fraction, of which a parabola computes 2**-fraction (`exp2_fixed`).

**Error diffusion.** A power has 8 bits more than a weight. It is rounded by error diffusion along the keys: the
rounding error of key j is carried to key j + 4, where it is added before that key is rounded. Equivalently, the powers
of every fourth key are summed up, starting from 1/2, and the weight of a key is the increment of the whole part of that
sum. Rounded independently, the many small weights of 512 tokens would all become 0, and the vector would move further
from full precision, by 0.003 of cosine.

**Spans.** A head may see some of the keys only: `spans` says which, and how a router chooses among them.

A sequence is quantized as a whole, head by head, so its result does not depend on its neighbours in the batch. The
order of the float operations is part of the definition: every implementation gives the same bits.

Shape suffixes: T tokens of all sequences, S tokens of one, Q queries of a tile, H heads, D width of a head, W = 3 * H *
D.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kernels.attention.library import EqualLengths, group_offsets, repeat_kv
from kernels.attention.spans import TILE, KeySpan
from kernels.attention_i8.spans import QUAD, UNSEEN, is_dense, listed_keys, seen_keys
from kernels.linear_i8.reference import EPSILON

MAX_SEQUENCE_TOKENS = 1 << 15
"""The longest sequence: its sums of weights times values stay below 2**31."""

_LEVELS = torch.tensor(255.0)
_HALF = torch.tensor(128.0)
_SIDE = torch.tensor(127.0)
_ONE = torch.tensor(1.0)
_LOG2_E = torch.tensor(1.44269504)
_FULL = 65280  # 255 * 256: the weight 255 with 8 fractional bits
_SLOPE = 43729
_BEND = 11089
"""65280 / 2**f ~ 65280 - f (43729 - 11089 f): of the parabolas through both ends, the one with the least error."""


class QuantizedHeads(NamedTuple):
    """The heads of one sequence. All integers are in float64, so that their products are exact.

    A product of 1 is an exponent of `exponent_H11`, to the base 2. A value is center_H1D + scale_H1D * v_HSD.
    """

    q_HSD: Tensor
    k_HSD: Tensor
    exponent_H11: Tensor
    v_HSD: Tensor
    scale_H1D: Tensor
    center_H1D: Tensor

    def select(self, heads: slice) -> "QuantizedHeads":
        """Returns some of the heads."""
        return QuantizedHeads(*(each[heads] for each in self))


def attention(
    qkv_TW: Tensor,
    groups: Sequence[EqualLengths],
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    spans: Sequence[tuple[int, KeySpan]] = (),
) -> Tensor:
    """Returns out_TX float32 with X = H * D, for groups that cover all rows of qkv_TW, float32, in order.

    A row holds q (H x D), then k and v (each `num_kv_heads` x D, by default H x D). Query head h reads the keys and
    values of kv head h / (H / num_kv_heads). `spans` are pairs of a number of heads and their span, for all heads in
    order; without spans, every head sees all keys. Values must be finite. Sequences have at most MAX_SEQUENCE_TOKENS
    tokens.
    """
    num_kv_heads = num_kv_heads or num_heads
    qkv_TW = repeat_kv(qkv_TW, num_heads, num_kv_heads)
    pieces: list[Tensor] = []
    for start, end in pairwise(group_offsets(groups)):
        heads = _quantized(qkv_TW[start:end], num_heads)
        out_HSD = _attend(heads, num_heads // num_kv_heads, spans) if spans else _mix(heads, None)
        pieces.append(out_HSD.transpose(0, 1).flatten(1))
    return torch.cat(pieces)


def _quantized(qkv_SW: Tensor, num_heads: int) -> QuantizedHeads:
    """Quantizes the heads of one sequence, in which every query head has its own keys and values."""
    length, width = qkv_SW.shape
    head = width // (3 * num_heads)
    q_HSD, k_HSD, v_HSD = qkv_SW.view(length, 3, num_heads, head).permute(1, 2, 0, 3).unbind(0)
    max_abs_H11 = q_HSD.abs().amax(dim=(1, 2), keepdim=True)
    q_HSD = torch.round(q_HSD * torch.div(_SIDE, max_abs_H11 + EPSILON))
    min_H1D, range_H1D = _min_and_range(k_HSD)
    range_H11 = range_H1D.amax(dim=2, keepdim=True)
    k_HSD = torch.round((k_HSD - min_H1D) * torch.div(_LEVELS, range_H11 + EPSILON))
    softmax_scale = torch.div(_LOG2_E, torch.tensor(float(head)).sqrt())
    exponent_H11 = torch.div(range_H11, _LEVELS) * (torch.div(max_abs_H11, _SIDE) * softmax_scale)
    min_H1D, range_H1D = _min_and_range(v_HSD)
    v_HSD = torch.round((v_HSD - min_H1D) * torch.div(_LEVELS, range_H1D + EPSILON)) - _HALF
    scale_H1D = torch.div(range_H1D, _LEVELS)
    center_H1D = _fused_multiply_add(_HALF, scale_H1D, min_H1D)
    return QuantizedHeads(q_HSD.double(), k_HSD.double(), exponent_H11, v_HSD.double(), scale_H1D, center_H1D)


def _mix(heads: QuantizedHeads, is_seen_QS: Tensor | None) -> Tensor:
    """Returns out_HQD: for each query, the mean of the values of the keys that it sees, by their weights.

    A query that sees no key gets the centre of the values' range.
    """
    product_HQS = torch.matmul(heads.q_HSD, heads.k_HSD.transpose(1, 2))
    p_HQS = softmax_u8(product_HQS, heads.exponent_H11, heads.q_HSD.shape[2], is_seen_QS)
    sum_HQ1 = p_HQS.sum(dim=2, keepdim=True).clamp(min=1)
    mean_HQD = torch.matmul(p_HQS, heads.v_HSD).float() * torch.div(_ONE, sum_HQ1.float())
    return _fused_multiply_add(mean_HQD, heads.scale_H1D, heads.center_H1D)


def _attend(heads: QuantizedHeads, num_shared: int, spans: Sequence[tuple[int, KeySpan]]) -> Tensor:
    """Returns out_HSD of heads with spans. `num_shared` heads share their keys, so the router chooses once for them."""
    length = heads.q_HSD.shape[1]
    outs: list[Tensor] = []
    first = 0
    for num_heads, span in spans:
        for start in range(first, first + num_heads, num_shared):
            part = heads.select(slice(start, start + num_shared))
            outs.append(_mix(part, None) if is_dense(span, length) else _mix_tiles(part, span))
        first += num_heads
    return torch.cat(outs)


def _mix_tiles(heads: QuantizedHeads, span: KeySpan) -> Tensor:
    """Returns out_HSD of heads that share their keys, tile by tile: a tile reads only the keys that it sees."""
    _, rate_H11 = _shift_and_rate(heads.exponent_H11, heads.q_HSD.shape[2])
    tiles: list[Tensor] = []
    for first in range(0, heads.q_HSD.shape[1], TILE):
        q_HQD = heads.q_HSD[:, first : first + TILE]
        is_seen_QS = seen_keys(first, q_HQD, heads.k_HSD[0], rate_H11[:, 0, 0], span)
        listed = listed_keys(is_seen_QS)
        near = heads._replace(q_HSD=q_HQD, k_HSD=heads.k_HSD[:, listed], v_HSD=heads.v_HSD[:, listed])
        tiles.append(_mix(near, is_seen_QS[:, listed]))
    return torch.cat(tiles, dim=1)


def _min_and_range(x_HSD: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the minimum of each channel over the tokens, and its range, maximum - minimum."""
    min_H1D = x_HSD.amin(dim=1, keepdim=True)
    return min_H1D, x_HSD.amax(dim=1, keepdim=True) - min_H1D


def softmax_u8(product_HQS: Tensor, exponent_H11: Tensor, head: int, is_seen_QS: Tensor | None = None) -> Tensor:
    """Returns the weights p_HQS of the keys of each query: whole numbers from 0 to 255, in float64, not normalised.

    `product_HQS` are the integer products q . k over `head` channels, in float64. A product of 1 is an exponent of
    `exponent_H11`, to the base 2. A key that `is_seen_QS` denies weighs exactly 0.
    """
    shift, rate_H11 = _shift_and_rate(exponent_H11, head)
    score_HQS = product_HQS.to(torch.int64) >> shift
    if is_seen_QS is not None:
        score_HQS = score_HQS.masked_fill(~is_seen_QS, UNSEEN)
    power_HQS = exp2_fixed((score_HQS.amax(dim=2, keepdim=True) - score_HQS) * rate_H11)
    power_HQS = power_HQS.masked_fill(score_HQS == UNSEEN, 0)
    length = power_HQS.shape[2]
    power_HQJ4 = functional.pad(power_HQS, (0, -length % QUAD)).view(*power_HQS.shape[:2], -1, QUAD)
    whole_HQJ4 = (power_HQJ4.cumsum(dim=2) + 128) >> 8
    p_HQJ4 = whole_HQJ4.diff(dim=2, prepend=torch.zeros_like(whole_HQJ4[:, :, :1]))
    return p_HQJ4.flatten(2)[:, :, :length].double()


def _shift_and_rate(exponent_H11: Tensor, head: int) -> tuple[int, Tensor]:
    """Returns by how many bits a product of `head` channels is shifted, and 65536ths of a halving for a score of 1."""
    shift = (head - 1).bit_length()
    return shift, torch.round(exponent_H11 * (65536 << shift)).clamp(max=65535.0).to(torch.int64)


def exp2_fixed(exponent: Tensor) -> Tensor:
    """Returns 65280 * 2**(-exponent / 65536), within 0.3 % and 2.

    `exponent` is a fixed-point number with 16 fractional bits: int64, not negative.
    """
    fraction = exponent & 65535
    integer = exponent >> 16
    slope = _SLOPE - (fraction * _BEND >> 16)
    return (_FULL - (fraction * slope >> 16)) >> integer.clamp(max=16)


def _fused_multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Returns a * b + c in float32 with one rounding: float64 holds the product exactly.

    `torch.addcmul` fuses the two operations for some shapes only.
    """
    return torch.addcmul(c.double(), a.double(), b.double()).float()
