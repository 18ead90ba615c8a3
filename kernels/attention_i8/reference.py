"""The definition of attention in 8-bit integers, one sequence after another, in plain torch.

    q, k, v --integers--> q_HSD s8, k_HSD u8, v_HSD s8 --scores--> i16 --weights--> p_HSS u8 --p v--> i32 --> out

    score = q . k, shifted to 16 bits        p ~ 255 / 2**(rate (the query's greatest - score))
    out = middle_D + step_D (p v) / sum(p)

As in SageAttention (Zhang et al., arXiv:2410.02367) keys are shifted before they are rounded, which adds the same to
all scores of a query and is not seen behind a softmax. Here each channel is shifted to its least value, so that keys
are unsigned, which the instruction of x86 wants of one side, and no zero point is left to correct. Values are shifted
to the middle of each channel's range; since weights add up to their sum, the middle is added again at the end.

Between the two products there are 16-bit integers only. What is shifted away of a score is a tenth of what rounding
queries and keys has moved it by. The product of a score's distance to the greatest with the head's rate has as many
halvings of the weight in its upper half as the lower half has 65536ths of the next.

Weights are rounded by running sums: p_j is what key j adds to the whole part of that of every fourth key, which begins
at a half. Rounded one by one, the many small weights of 512 tokens would all be 0, and the vector a cosine of 0.003
further from full precision.

A sequence is quantized as a whole, head by head, so it never feels its neighbours. The order of the float operations is
part of the definition: every implementation gives the same bits.

Rejected: a scale for each query and key (twice the work before the first product, no gain in accuracy on MiniLM), and
powers of two in float32 (three times the time of these, no nearer to full precision).

Shape suffixes: T tokens of all sequences, S tokens of one, H heads, D width of a head, W = 3 * H * D.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from kernels.attention.library import EqualLengths, offsets_of
from kernels.linear_i8.reference import EPSILON

MOST_TOKENS = 1 << 15
"""Of one sequence: the sums of weights times values stay below 2**31."""

QUAD = 4
"""Keys whose weights are rounded by sums of their own, every fourth by the same."""

_LEVELS = torch.tensor(255.0)
_HALF = torch.tensor(128.0)
_SIDE = torch.tensor(127.0)
_ONE = torch.tensor(1.0)
_LOG2_E = torch.tensor(1.44269504)
_FULL = 65280  # 255 * 256: a weight's whole part lies above its 8 lowest bits
_SLOPE = 43729
_BEND = 11089
"""65280 / 2**f ~ 65280 - f (43729 - 11089 f): of the parabolas through both ends, the one with the least error."""


def attention(qkv_TW: Tensor, groups: Sequence[EqualLengths], *, num_heads: int) -> Tensor:
    """out_TX float32 with X = H * D, for the groups that make up all rows in order; a row holds q, k, v, each H x D.

    Values must be finite. Sequences have at most MOST_TOKENS tokens.
    """
    return torch.cat([_one(qkv_TW[start:end], num_heads) for start, end in pairwise(offsets_of(groups))])


def _one(qkv_SW: Tensor, num_heads: int) -> Tensor:
    length, width = qkv_SW.shape
    head = width // (3 * num_heads)
    q_HSD, k_HSD, v_HSD = qkv_SW.view(length, 3, num_heads, head).permute(1, 2, 0, 3).unbind(0)
    most_H11 = q_HSD.abs().amax(dim=(1, 2), keepdim=True)
    q_HSD = torch.round(q_HSD * torch.div(_SIDE, most_H11 + EPSILON))
    low_H1D, range_H1D = _ranges(k_HSD)
    range_H11 = range_H1D.amax(dim=2, keepdim=True)
    k_HSD = torch.round((k_HSD - low_H1D) * torch.div(_LEVELS, range_H11 + EPSILON))
    per_power = torch.div(_LOG2_E, torch.tensor(float(head)).sqrt())
    step_H11 = torch.div(range_H11, _LEVELS) * (torch.div(most_H11, _SIDE) * per_power)
    p_HSS = weights(torch.matmul(q_HSD.double(), k_HSD.double().transpose(1, 2)), step_H11, head)
    low_H1D, range_H1D = _ranges(v_HSD)
    v_HSD = torch.round((v_HSD - low_H1D) * torch.div(_LEVELS, range_H1D + EPSILON)) - _HALF
    sum_HS1 = p_HSS.sum(dim=2, keepdim=True)
    mean_HSD = torch.matmul(p_HSS, v_HSD.double()).float() * torch.div(_ONE, sum_HS1.float())
    step_H1D = torch.div(range_H1D, _LEVELS)
    out_HSD = _fused(mean_HSD, step_H1D, _fused(_HALF, step_H1D, low_H1D))
    return out_HSD.transpose(0, 1).reshape(length, width // 3)


def _ranges(x_HSD: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's least value, and how far it is to the greatest."""
    low_H1D = x_HSD.amin(dim=1, keepdim=True)
    return low_H1D, x_HSD.amax(dim=1, keepdim=True) - low_H1D


def weights(product_HSS: Tensor, step_H11: Tensor, head: int) -> Tensor:
    """p_HSS, whole numbers from 0 to 255 (as are the products, in float64), of the keys of each query.

    A product counts `step_H11` halvings of the weight; `head` channels were summed up.
    """
    shift = (head - 1).bit_length()
    score_HSS = product_HSS.to(torch.int64) >> shift
    rate_H11 = torch.round(step_H11 * (65536 << shift)).clamp(max=65535.0).to(torch.int64)
    power_HSS = powers((score_HSS.amax(dim=2, keepdim=True) - score_HSS) * rate_H11)
    length = power_HSS.shape[2]
    power_HSQ4 = functional.pad(power_HSS, (0, -length % QUAD)).view(*power_HSS.shape[:2], -1, QUAD)
    whole_HSQ4 = (power_HSQ4.cumsum(dim=2) + 128) >> 8
    return whole_HSQ4.diff(dim=2, prepend=torch.zeros_like(whole_HSQ4[:, :, :1])).flatten(2)[:, :, :length].double()


def powers(halvings: Tensor) -> Tensor:
    """65280 / 2**(halvings / 65536), within 0.3 % and 2, for whole numbers of at least 0 (int64)."""
    fraction = halvings & 65535
    whole = halvings >> 16
    slope = _SLOPE - (fraction * _BEND >> 16)
    return (_FULL - (fraction * slope >> 16)) >> whole.clamp(max=16)


def _fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c in float32 with one rounding: the product is exact in float64. (addcmul fuses some shapes only.)"""
    return torch.addcmul(c.double(), a.double(), b.double()).float()
