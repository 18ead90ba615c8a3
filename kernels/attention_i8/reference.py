"""The definition of attention in 8-bit integers, one sequence after another, in plain torch.

    q, k, v --integers--> q_HSD s8, k_HSD u8, v_HSD s8 --scores--> i32 --weights--> p_HSS u8 --p v--> i32 --> out

    score = step_q step_k q . k log2(e) / sqrt(D)        p ~ 255 * 2**(score - the query's greatest)
    out = middle_D + step_D (p v) / sum(p)

As in SageAttention (Zhang et al., arXiv:2410.02367) keys are shifted before they are rounded, which adds the same to
all scores of a query and is not seen behind a softmax. Here each channel is shifted to its least value, so that keys
are unsigned, which the instruction of x86 wants of one side, and no zero point is left to correct. Values are shifted
to the middle of each channel's range; since weights add up to their sum, the middle is added again at the end.

Weights are rounded by their running sum: p_j is what key j adds to its whole part. Rounded one by one, the many small
weights of 512 tokens would all be 0, and the vector a cosine of 0.003 further from full precision.

A sequence is quantized as a whole, head by head, so it never feels its neighbours. The order of the float operations is
part of the definition: every implementation gives the same bits.

Rejected: a scale for each query and key (twice the work before the first product, no gain in accuracy on MiniLM).

Shape suffixes: T tokens of all sequences, S tokens of one, H heads, D width of a head, W = 3 * H * D.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from kernels.attention.library import Group, offsets_of
from kernels.linear_i8.reference import EPSILON

MOST_TOKENS = 1 << 15
"""Of one sequence: its running sums stay below 2**31."""

_LEVELS, _HALF, _SIDE, _ONE = torch.tensor(255.0), torch.tensor(128.0), torch.tensor(127.0), torch.tensor(1.0)
_LOG2_E = torch.tensor(1.44269504)
_FULL = torch.tensor(65280.0)  # 255 * 256: a weight's whole part lies above its 8 lowest bits
_FIRST, _SECOND = torch.tensor(45888.043), torch.tensor(15658.322)  # of 65280 * 2**f, within 0.2 %


def attention(qkv_TW: Tensor, groups: Sequence[Group], *, num_heads: int) -> Tensor:
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
    p_HSS = weights(torch.matmul(q_HSD.double(), k_HSD.double().transpose(1, 2)), step_H11)
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


def weights(score_HSS: Tensor, step_H11: Tensor) -> Tensor:
    """p_HSS, whole numbers from 0 to 255 in float64 (as are the scores), of the keys of each query."""
    below_HSS = (score_HSS - score_HSS.amax(dim=2, keepdim=True)).float()
    whole_sum_HSS = powers(below_HSS * step_H11).cumsum(dim=2) >> 8
    return whole_sum_HSS.diff(dim=2, prepend=torch.zeros_like(whole_sum_HSS[:, :, :1])).double()


def powers(v: Tensor) -> Tensor:
    """65280 * 2**v for v <= 0, within 0.2 %, to the nearest integer (int32); exact for whole v."""
    v = v.clamp(min=-126.0)
    whole = torch.round(v)
    f = v - whole
    p = _fused(_fused(_SECOND, f, _FIRST), f, _FULL)
    return torch.round((p.view(torch.int32) + (whole.to(torch.int32) << 23)).view(torch.float32)).to(torch.int32)


def _fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b + c in float32 with one rounding: the product is exact in float64. (addcmul fuses some shapes only.)"""
    return torch.addcmul(c.double(), a.double(), b.double()).float()
