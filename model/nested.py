"""The two planes of a nested weight: one INT8 integer is two signed nibbles, of which the upper is INT4 by itself.

    q8_NK --split--> hi_NJ, lo_NJ, m_NG --join--> q8_NK = m * hi + lo        INT4 is m * hi (`kernels.linear_i4`)

m is an integer from 1 to 16 for each row and group of 64 inputs: the one that leaves the smallest sum of lo squared,
which is the error of INT4 beyond that of INT8. m = 16 splits every q8 up to 119 (7 * 16 + 7), so there always is one;
a smaller m suits a group without large values, and may clip the few that it has, as long as lo still holds the rest.

After MatQuant (arXiv 2502.06786), where the upper bits of one INT8 weight are its INT4 weight; the multiplier is ours.

Shape suffixes: N outputs, K inputs, J = K / 2 bytes, G = K / 64 groups.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, high_plane, pack_nibbles, unpack_nibbles

MAX_Q8 = 119
"""Largest magnitude of a nested INT8 weight."""

_LOWEST, _HIGHEST = -8, 7
_CANNOT = 1e6
"""Error of a value that no lo can hold; more than that of a whole group that every lo holds."""


def split(q8_NK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """hi_NJ, lo_NJ and m_NG, uint8, of int8 values up to MAX_Q8. K is a multiple of GROUP."""
    num_rows, num_in = q8_NK.shape
    places_NK = q8_NK.int() + MAX_Q8
    errors_NGM = functional.embedding_bag(places_NK.view(-1, GROUP), _ERRORS_QM, mode="sum")
    m_NG = (errors_NGM.argmin(dim=1) + 1).view(num_rows, num_in // GROUP)
    tables_NK = (m_NG - 1).repeat_interleave(GROUP, dim=1) * len(_ERRORS_QM)
    hi_NK = _HIGH_MQ.index_select(0, (tables_NK + places_NK).flatten()).view(num_rows, num_in)
    hi_NJ, m_NG = pack_nibbles(hi_NK), m_NG.to(torch.uint8)
    return hi_NJ, pack_nibbles(q8_NK - high_plane(hi_NJ, m_NG)), m_NG


def join(hi_NJ: Tensor, lo_NJ: Tensor, m_NG: Tensor) -> Tensor:
    """q8_NK int8. Planes that no `split` made may give values beyond MAX_Q8, never within it by overflow."""
    return high_plane(hi_NJ, m_NG) + unpack_nibbles(lo_NJ)


def _tables() -> tuple[Tensor, Tensor]:
    """For every q8 from -MAX_Q8 up: the error lo squared under every m [Q, M], and hi [M * Q]."""
    q_Q = torch.arange(-MAX_Q8, MAX_Q8 + 1, dtype=torch.float32)
    m_M1 = torch.arange(1, MAX_MULTIPLIER + 1, dtype=torch.float32)[:, None]
    hi_MQ = torch.round(q_Q / m_M1)
    hi_MQ += q_Q - m_M1 * hi_MQ > _HIGHEST  # lo of 8, half of 16, is -8 from the next
    hi_MQ.clamp_(_LOWEST, _HIGHEST)
    lo_MQ = q_Q - m_M1 * hi_MQ
    can_hold_MQ = (lo_MQ >= _LOWEST) & (lo_MQ <= _HIGHEST)
    errors_MQ = torch.where(can_hold_MQ, lo_MQ.square(), torch.tensor(_CANNOT))
    return errors_MQ.t().contiguous(), hi_MQ.to(torch.int8).flatten()


_ERRORS_QM, _HIGH_MQ = _tables()
