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

A sequence is quantized as a whole, head by head, so its result does not depend on its neighbours in the batch. The
order of the float operations is part of the definition: every implementation gives the same bits.

Rejected: a scale for each query and key (twice the work before the first product, no gain in accuracy on MiniLM), and
exp2 in float32 (three times the time, and no nearer to full precision).

Shape suffixes: T tokens of all sequences, S tokens of one, H heads, D width of a head, W = 3 * H * D.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from kernels.attention.library import EqualLengths, offsets_of, repeat_kv
from kernels.linear_i8.reference import EPSILON

MAX_SEQUENCE_TOKENS = 1 << 15
"""The longest sequence: its sums of weights times values stay below 2**31."""

QUAD = 4
"""The distance of error diffusion: a key's rounding error is carried to the fourth key from it."""

_LEVELS = torch.tensor(255.0)
_HALF = torch.tensor(128.0)
_SIDE = torch.tensor(127.0)
_ONE = torch.tensor(1.0)
_LOG2_E = torch.tensor(1.44269504)
_FULL = 65280  # 255 * 256: the weight 255 with 8 fractional bits
_SLOPE = 43729
_BEND = 11089
"""65280 / 2**f ~ 65280 - f (43729 - 11089 f): of the parabolas through both ends, the one with the least error."""


def attention(
    qkv_TW: Tensor, groups: Sequence[EqualLengths], *, num_heads: int, num_kv_heads: int | None = None
) -> Tensor:
    """Returns out_TX float32 with X = H * D, for groups that cover all rows in order.

    A row holds q (H x D), k and v (each `num_kv_heads` x D, by default H x D). Query head h reads the keys and values
    of kv head h / (H / num_kv_heads). Values must be finite. Sequences have at most MAX_SEQUENCE_TOKENS tokens.
    """
    qkv_TW = repeat_kv(qkv_TW, num_heads, num_kv_heads or num_heads)
    return torch.cat([_attend(qkv_TW[start:end], num_heads) for start, end in pairwise(offsets_of(groups))])


def _attend(qkv_SW: Tensor, num_heads: int) -> Tensor:
    length, width = qkv_SW.shape
    head = width // (3 * num_heads)
    q_HSD, k_HSD, v_HSD = qkv_SW.view(length, 3, num_heads, head).permute(1, 2, 0, 3).unbind(0)
    max_abs_H11 = q_HSD.abs().amax(dim=(1, 2), keepdim=True)
    q_HSD = torch.round(q_HSD * torch.div(_SIDE, max_abs_H11 + EPSILON))
    min_H1D, range_H1D = _min_and_range(k_HSD)
    range_H11 = range_H1D.amax(dim=2, keepdim=True)
    k_HSD = torch.round((k_HSD - min_H1D) * torch.div(_LEVELS, range_H11 + EPSILON))
    softmax_scale = torch.div(_LOG2_E, torch.tensor(float(head)).sqrt())
    scale_H11 = torch.div(range_H11, _LEVELS) * (torch.div(max_abs_H11, _SIDE) * softmax_scale)
    p_HSS = softmax_u8(torch.matmul(q_HSD.double(), k_HSD.double().transpose(1, 2)), scale_H11, head)
    min_H1D, range_H1D = _min_and_range(v_HSD)
    v_HSD = torch.round((v_HSD - min_H1D) * torch.div(_LEVELS, range_H1D + EPSILON)) - _HALF
    sum_HS1 = p_HSS.sum(dim=2, keepdim=True)
    mean_HSD = torch.matmul(p_HSS, v_HSD.double()).float() * torch.div(_ONE, sum_HS1.float())
    scale_H1D = torch.div(range_H1D, _LEVELS)
    out_HSD = _fused_multiply_add(mean_HSD, scale_H1D, _fused_multiply_add(_HALF, scale_H1D, min_H1D))
    return out_HSD.transpose(0, 1).reshape(length, width // 3)


def _min_and_range(x_HSD: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the minimum of each channel over the tokens, and its range, maximum - minimum."""
    min_H1D = x_HSD.amin(dim=1, keepdim=True)
    return min_H1D, x_HSD.amax(dim=1, keepdim=True) - min_H1D


def softmax_u8(product_HSS: Tensor, scale_H11: Tensor, head: int) -> Tensor:
    """Returns the weights p_HSS of the keys of each query: whole numbers from 0 to 255, in float64, not normalised.

    `product_HSS` are the integer products q . k over `head` channels, in float64. A product of 1 is an exponent of
    `scale_H11`, to the base 2.
    """
    shift = (head - 1).bit_length()
    score_HSS = product_HSS.to(torch.int64) >> shift
    rate_H11 = torch.round(scale_H11 * (65536 << shift)).clamp(max=65535.0).to(torch.int64)
    power_HSS = exp2_fixed((score_HSS.amax(dim=2, keepdim=True) - score_HSS) * rate_H11)
    length = power_HSS.shape[2]
    power_HSQ4 = functional.pad(power_HSS, (0, -length % QUAD)).view(*power_HSS.shape[:2], -1, QUAD)
    whole_HSQ4 = (power_HSQ4.cumsum(dim=2) + 128) >> 8
    p_HSQ4 = whole_HSQ4.diff(dim=2, prepend=torch.zeros_like(whole_HSQ4[:, :, :1]))
    return p_HSQ4.flatten(2)[:, :, :length].double()


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
