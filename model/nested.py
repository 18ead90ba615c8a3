"""The two planes of a nested weight: an INT8 integer is split into two signed nibbles, and the upper one is INT4.

    q8_NK --split--> hi_NJ, lo_NJ, m_NG --join--> q8_NK = m * hi + lo        INT4 is m * hi (`kernels.linear_i4`)

The multiplier m is an integer from 1 to 16 for each row and group of 64 inputs. lo is the error that INT4 adds to the
error of INT8. So m minimises the sum of lo squared, weighted by the second moments of the inputs if they are known.
m = 16 can split every q8 up to 119 (7 * 16 + 7), so there always is a valid m. A smaller m suits a group without large
values. It may clip a few values to the range of hi, as long as their lo is still a nibble.

The scheme follows MatQuant (arXiv 2502.06786), in which the upper bits of an INT8 weight are its INT4 weight. The
multiplier is our addition.

Shape suffixes: N outputs, K inputs, J = K / 2 bytes, G = K / 64 groups, P = N * G groups of all rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kernels.linear_i4.reference import GROUP, MAX_MULTIPLIER, high_plane, pack_nibbles, unpack_nibbles

MAX_Q8 = 119
"""The largest magnitude of a nested INT8 weight."""

_ROWS = 64
"""The number of rows whose multipliers are searched at once, so that their errors stay in the processor's cache."""

_MIN_NIBBLE = -8
_MAX_NIBBLE = 7


def split(q8_NK: Tensor, importance_K: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Splits an INT8 weight into two planes of nibbles: returns hi_NJ, lo_NJ and the multipliers m_NG, uint8.

    q8_NK is int8 from -MAX_Q8 to MAX_Q8; K is a multiple of GROUP. `importance_K`, positive, weights the squared error
    at each input. By default all inputs have the same weight.
    """
    if importance_K is None:
        importance_K = torch.ones(q8_NK.shape[1])
    m_NG = _multipliers(q8_NK, importance_K)
    return *planes(q8_NK, m_NG), m_NG


def planes(q8_NK: Tensor, m_NG: Tensor) -> tuple[Tensor, Tensor]:
    """Splits an INT8 weight by given multipliers: returns the planes hi_NJ and lo_NJ, uint8.

    Every q8 must be in the range from -8 * (m + 1) to 7 * (m + 1).
    """
    offset_NK = (m_NG.int() - 1).repeat_interleave(GROUP, dim=1) * len(_ERRORS_QM)
    index_NK = offset_NK + q8_NK.int() + MAX_Q8
    hi_NJ = pack_nibbles(_HIGH_MQ.index_select(0, index_NK.flatten()).view(q8_NK.shape))
    return hi_NJ, pack_nibbles(q8_NK - high_plane(hi_NJ, m_NG))


def join(hi_NJ: Tensor, lo_NJ: Tensor, m_NG: Tensor) -> Tensor:
    """Joins the planes of a nested weight: returns q8_NK int8 = m * hi + lo.

    Planes that do not come from `split` can give values beyond MAX_Q8. `from_blob` detects them, because no overflow
    wraps such a value back into the range.
    """
    return high_plane(hi_NJ, m_NG) + unpack_nibbles(lo_NJ)


def mse_multipliers(w_NK: Tensor, importance_K: Tensor | None = None) -> Tensor:
    """Returns the multipliers m_NG, uint8, with the smallest squared error for a weight that is INT4 alone.

    `w_NK` is float32 in units of the scale, with magnitudes up to 7 * 16. m = 16 clips none of these values. A smaller
    m clips the largest values, and rounds the others more finely. `importance_K` weights the error as in `split`.
    """
    num_rows, num_in = w_NK.shape
    m_NG = torch.empty(num_rows, num_in // GROUP, dtype=torch.uint8)
    weights_GK = torch.ones(1, GROUP) if importance_K is None else importance_K.view(-1, GROUP)
    for start in range(0, num_rows, _ROWS):
        w_NGK = w_NK[start : start + _ROWS].reshape(-1, num_in // GROUP, GROUP)
        errors: list[Tensor] = []
        for m in range(1, MAX_MULTIPLIER + 1):
            rounded_NGK = torch.round(w_NGK / m).clamp_(_MIN_NIBBLE, _MAX_NIBBLE).mul_(m)
            errors.append(((rounded_NGK - w_NGK).square_() * weights_GK).sum(dim=2))
        m_NG[start : start + _ROWS] = torch.stack(errors).argmin(dim=0) + 1
    return m_NG


def _multipliers(q8_NK: Tensor, importance_K: Tensor) -> Tensor:
    """Returns the multipliers m_NG, uint8, with the smallest error among those for which every lo is a nibble."""
    groups = (-1, GROUP)
    importance_NK = importance_K.expand(q8_NK.shape).reshape(groups)
    index_P = (q8_NK.int() + MAX_Q8).view(groups)
    errors_PM = functional.embedding_bag(index_P, _ERRORS_QM, mode="sum", per_sample_weights=importance_NK)
    min_P, max_P = q8_NK.reshape(groups).int().aminmax(dim=1)
    m_M = torch.arange(1, MAX_MULTIPLIER + 1)
    too_small_PM = (min_P[:, None] < _MIN_NIBBLE * (m_M + 1)) | (max_P[:, None] > _MAX_NIBBLE * (m_M + 1))
    best_P = errors_PM.masked_fill(too_small_PM, torch.inf).argmin(dim=1)
    return (best_P + 1).view(len(q8_NK), -1).to(torch.uint8)


def _tables() -> tuple[Tensor, Tensor]:
    """Returns two tables for every q8 from -MAX_Q8 to MAX_Q8 and every m: lo squared [Q, M], and hi [M * Q]."""
    q_Q = torch.arange(-MAX_Q8, MAX_Q8 + 1, dtype=torch.float32)
    m_M1 = torch.arange(1, MAX_MULTIPLIER + 1, dtype=torch.float32)[:, None]
    hi_MQ = torch.round(q_Q / m_M1)
    # With m = 16, lo can be 8, which is not a nibble. The next larger hi has lo = -8.
    hi_MQ += q_Q - m_M1 * hi_MQ > _MAX_NIBBLE
    hi_MQ.clamp_(_MIN_NIBBLE, _MAX_NIBBLE)
    return (q_Q - m_M1 * hi_MQ).square().t().contiguous(), hi_MQ.to(torch.int8).flatten()


_ERRORS_QM, _HIGH_MQ = _tables()
