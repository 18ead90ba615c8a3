"""The two planes of a nested weight: an INT8 integer is split into two signed nibbles, and the upper one is INT4.

    q8_NK --split--> hi_NJ, lo_NJ, m_NG --join--> q8_NK = m * hi + lo        INT4 is m * hi (`kernels.linear_i4`)

m is an integer from 1 to 16 for each row and group of 64 inputs. lo is the error of INT4 beyond that of INT8, so m
minimises the sum of lo squared, weighted by the second moments of the inputs if they are known. m = 16 can split every
q8 up to 119 (7 * 16 + 7), so a valid m always exists. A smaller m suits a group without large values; it may clip a few
values to the range of hi, as long as their lo is still a nibble.

The scheme follows MatQuant (arXiv 2502.06786), where the upper bits of an INT8 weight are its INT4 weight; the
multiplier is ours.

Shape suffixes: N outputs, K inputs, J = K / 2 bytes, G = K / 64 groups, P = N * G groups of all rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, high_plane, pack_nibbles, unpack_nibbles

MAX_Q8 = 119
"""The largest magnitude of a nested INT8 weight."""

_MIN_NIBBLE = -8
_MAX_NIBBLE = 7


def split(q8_NK: Tensor, importance_K: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hi_NJ, lo_NJ and m_NG, uint8, of int8 values up to MAX_Q8. K is a multiple of GROUP.

    `importance_K` (positive) weighs the error at each input; without it all inputs weigh the same.
    """
    num_rows, num_in = q8_NK.shape
    if importance_K is None:
        importance_K = torch.ones(num_in)
    index_NK = q8_NK.int() + MAX_Q8
    m_NG = _multipliers(q8_NK, index_NK, importance_K)
    offset_NK = (m_NG - 1).repeat_interleave(GROUP, dim=1) * len(_ERRORS_QM)
    hi_NK = _HIGH_MQ.index_select(0, (offset_NK + index_NK).flatten()).view(num_rows, num_in)
    hi_NJ = pack_nibbles(hi_NK)
    m_NG = m_NG.to(torch.uint8)
    return hi_NJ, pack_nibbles(q8_NK - high_plane(hi_NJ, m_NG)), m_NG


def join(hi_NJ: Tensor, lo_NJ: Tensor, m_NG: Tensor) -> Tensor:
    """Returns q8_NK int8.

    Planes that are not from `split` may give values beyond MAX_Q8, but no overflow wraps a value back into the range.
    """
    return high_plane(hi_NJ, m_NG) + unpack_nibbles(lo_NJ)


def _multipliers(q8_NK: Tensor, index_NK: Tensor, importance_K: Tensor) -> Tensor:
    """Returns m_NG int64: the multiplier with the smallest error among those for which every lo is a nibble."""
    groups = (-1, GROUP)
    importance_NK = importance_K.expand(q8_NK.shape).reshape(groups)
    index_P = index_NK.view(groups)
    errors_PM = functional.embedding_bag(index_P, _ERRORS_QM, mode="sum", per_sample_weights=importance_NK)
    min_P, max_P = q8_NK.reshape(groups).int().aminmax(dim=1)
    m_M = torch.arange(1, MAX_MULTIPLIER + 1)
    too_small_PM = (min_P[:, None] < _MIN_NIBBLE * (m_M + 1)) | (max_P[:, None] > _MAX_NIBBLE * (m_M + 1))
    best_P = errors_PM.masked_fill(too_small_PM, torch.inf).argmin(dim=1)
    return (best_P + 1).view(len(q8_NK), -1)


def _tables() -> tuple[Tensor, Tensor]:
    """Returns two tables over every q8 from -MAX_Q8 to MAX_Q8 and every m: lo squared [Q, M], and hi [M * Q]."""
    q_Q = torch.arange(-MAX_Q8, MAX_Q8 + 1, dtype=torch.float32)
    m_M1 = torch.arange(1, MAX_MULTIPLIER + 1, dtype=torch.float32)[:, None]
    hi_MQ = torch.round(q_Q / m_M1)
    hi_MQ += q_Q - m_M1 * hi_MQ > _MAX_NIBBLE  # m = 16 may leave lo = 8, which is no nibble: the next hi has lo = -8
    hi_MQ.clamp_(_MIN_NIBBLE, _MAX_NIBBLE)
    return (q_Q - m_M1 * hi_MQ).square().t().contiguous(), hi_MQ.to(torch.int8).flatten()


_ERRORS_QM, _HIGH_MQ = _tables()
