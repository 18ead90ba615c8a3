"""The two planes of a nested weight: one INT8 integer is two signed nibbles, of which the upper is INT4 by itself.

    q8_NK --split--> hi_NJ, lo_NJ, m_NG --join--> q8_NK = m * hi + lo        INT4 is m * hi (`kernels.linear_i4`)

m is an integer from 1 to 16 for each row and group of 64 inputs: the one that leaves the smallest sum of lo squared,
which is the error of INT4 beyond that of INT8; where it is known how large each input is, it counts by that. m = 16
splits every q8 up to 119 (7 * 16 + 7), so there always is one; a smaller m suits a group without large values, and may
clip the few that it has, as long as lo still holds the rest.

After MatQuant (arXiv 2502.06786), where the upper bits of one INT8 weight are its INT4 weight; the multiplier is ours.

Shape suffixes: N outputs, K inputs, J = K / 2 bytes, G = K / 64 groups, P = N * G groups of all rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, high_plane, pack_nibbles, unpack_nibbles

MAX_Q8 = 119
"""Largest magnitude of a nested INT8 weight."""

_LOWEST = -8
_HIGHEST = 7


def split(q8_NK: Tensor, importance_K: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """hi_NJ, lo_NJ and m_NG, uint8, of int8 values up to MAX_Q8. K is a multiple of GROUP.

    `importance_K` (positive) says how much an error at each input counts; all the same without it.
    """
    num_rows, num_in = q8_NK.shape
    places_NK = q8_NK.int() + MAX_Q8
    m_NG = _multipliers(q8_NK, places_NK, torch.ones(num_in) if importance_K is None else importance_K)
    tables_NK = (m_NG - 1).repeat_interleave(GROUP, dim=1) * len(_ERRORS_QM)
    hi_NK = _HIGH_MQ.index_select(0, (tables_NK + places_NK).flatten()).view(num_rows, num_in)
    hi_NJ = pack_nibbles(hi_NK)
    m_NG = m_NG.to(torch.uint8)
    return hi_NJ, pack_nibbles(q8_NK - high_plane(hi_NJ, m_NG)), m_NG


def join(hi_NJ: Tensor, lo_NJ: Tensor, m_NG: Tensor) -> Tensor:
    """q8_NK int8. Planes that no `split` made may give values beyond MAX_Q8, never within it by overflow."""
    return high_plane(hi_NJ, m_NG) + unpack_nibbles(lo_NJ)


def _multipliers(q8_NK: Tensor, places_NK: Tensor, importance_K: Tensor) -> Tensor:
    """m_NG int64: of those that leave a lo for every value, the one with the smallest error."""
    groups = (-1, GROUP)
    importance_NK = importance_K.expand(q8_NK.shape).reshape(groups)
    errors_PM = functional.embedding_bag(
        places_NK.view(groups), _ERRORS_QM, mode="sum", per_sample_weights=importance_NK
    )
    lowest_P, highest_P = q8_NK.reshape(groups).int().aminmax(dim=1)
    m_M = torch.arange(1, MAX_MULTIPLIER + 1)
    too_small_PM = (lowest_P[:, None] < _LOWEST * (m_M + 1)) | (highest_P[:, None] > _HIGHEST * (m_M + 1))
    best_P = errors_PM.masked_fill(too_small_PM, torch.inf).argmin(dim=1)
    return (best_P + 1).view(len(q8_NK), -1)


def _tables() -> tuple[Tensor, Tensor]:
    """For every q8 from -MAX_Q8 up: the error lo squared under every m [Q, M], and hi [M * Q]."""
    q_Q = torch.arange(-MAX_Q8, MAX_Q8 + 1, dtype=torch.float32)
    m_M1 = torch.arange(1, MAX_MULTIPLIER + 1, dtype=torch.float32)[:, None]
    hi_MQ = torch.round(q_Q / m_M1)
    hi_MQ += q_Q - m_M1 * hi_MQ > _HIGHEST  # lo of 8, half of 16, is -8 from the next
    hi_MQ.clamp_(_LOWEST, _HIGHEST)
    return (q_Q - m_M1 * hi_MQ).square().t().contiguous(), hi_MQ.to(torch.int8).flatten()


_ERRORS_QM, _HIGH_MQ = _tables()
