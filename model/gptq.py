"""GPTQ: rounds a matrix so that the rounding errors cancel on the inputs that it will see.

    for each input, largest first: round its column, and compensate the error in the columns that are not rounded yet

The Gram matrix of the inputs (their second moments) determines the compensation: GPTQ, Frantar et al., arXiv
2210.17323, equation 3, with the Cholesky factor of the inverse. Here both planes of a nested weight are rounded in the
same pass, each with its own errors: q8 to the nearest integer, and hi to the nearest integer for which lo = q8 - m * hi
is still a nibble. A weight that is INT4 alone has the second of them without that condition.

Rejected: rounding the planes one after the other. INT8 first leaves INT4 the same choices and costs a second pass; INT4
first makes INT8 follow it.

Shape suffixes: N outputs, K inputs, S rows that are rounded (N, or 2N: q8 above, q4 below), B inputs of a block.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.nested import MAX_Q8

DAMPING = 0.01
"""The share of the mean second moment that is added to each, so that the matrix is invertible. It also keeps inputs
that were always 0 from compensating."""

_BLOCK = 64
"""GPTQ's block size: after so many inputs their errors are compensated in all later columns, in one product."""

_MIN_NIBBLE = -8
_MAX_NIBBLE = 7


def gptq_round(w_NK: Tensor, m_NK: Tensor, gram_KK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns q8_NK and hi_NK, int8, such that hi and q8 - m * hi are nibbles.

    `w_NK` is the weight in units of its scale, `m_NK` holds the multiplier of each input, and `gram_KK` is the mean of
    x x^T over inputs x.
    """
    num_rows = len(w_NK)

    def both_planes(w_S: Tensor, m_N: Tensor) -> Tensor:
        q8_N, hi_N = _round(w_S[:num_rows], w_S[num_rows:], m_N)
        return torch.cat((q8_N, hi_N * m_N))

    q8_NK, q4_NK = torch.split(_compensated(torch.cat((w_NK, w_NK)), m_NK, gram_KK, both_planes), num_rows)
    return q8_NK.to(torch.int8), (q4_NK / m_NK).to(torch.int8)


def gptq_round_int4(w_NK: Tensor, m_NK: Tensor, gram_KK: Tensor) -> Tensor:
    """Returns hi_NK int8, nibbles, of a weight that has this plane alone. The arguments are those of `gptq_round`."""

    def int4(w_N: Tensor, m_N: Tensor) -> Tensor:
        return torch.round(w_N / m_N).clamp_(_MIN_NIBBLE, _MAX_NIBBLE) * m_N

    return (_compensated(w_NK, m_NK, gram_KK, int4) / m_NK).to(torch.int8)


def _compensated(
    w_SK: Tensor, m_NK: Tensor, gram_KK: Tensor, round_input: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Returns the rounded values of `w_SK`: each input is rounded by `round_input`, then its error is compensated."""
    order_K = gram_KK.diagonal().argsort(descending=True, stable=True)
    compensation_KK = _compensation(gram_KK[order_K][:, order_K])
    w_KS = w_SK[:, order_K].t().contiguous()
    m_KN = m_NK[:, order_K].t().float()
    rounded_KS = torch.empty_like(w_KS)
    for first in range(0, len(w_KS), _BLOCK):
        block_BS = w_KS[first : first + _BLOCK]
        end = first + len(block_BS)
        error_BS = torch.empty_like(block_BS)
        for index, w_S in enumerate(block_BS):
            k = first + index
            rounded_KS[k] = round_input(w_S, m_KN[k])
            torch.sub(w_S, rounded_KS[k], out=error_BS[index])
            block_BS[index + 1 :].addr_(compensation_KK[k, k + 1 : end], error_BS[index], alpha=-1)
        w_KS[end:].addmm_(compensation_KK[first:end, end:].t(), error_BS, alpha=-1)
    return rounded_KS[order_K.argsort()].t()


def _round(w8_N: Tensor, w4_N: Tensor, m_N: Tensor) -> tuple[Tensor, Tensor]:
    """Returns q8_N and hi_N: the nearest integers for which hi and lo = q8 - m * hi are nibbles."""
    max_q8 = torch.tensor(float(MAX_Q8))
    min_q8_N = torch.maximum(_MIN_NIBBLE * (m_N + 1), -max_q8)
    max_q8_N = torch.minimum(_MAX_NIBBLE * (m_N + 1), max_q8)
    q8_N = torch.round(w8_N).clamp_(min_q8_N, max_q8_N)
    min_hi_N = torch.ceil((q8_N - _MAX_NIBBLE) / m_N).clamp_(min=_MIN_NIBBLE)
    max_hi_N = torch.floor((q8_N - _MIN_NIBBLE) / m_N).clamp_(max=_MAX_NIBBLE)
    return q8_N, torch.round(w4_N / m_N).clamp_(min_hi_N, max_hi_N)


def _compensation(gram_KK: Tensor) -> Tensor:
    """Returns compensation_KK: an error of 1 at input k is compensated by -compensation[k, l] at each input l > k."""
    mean = gram_KK.diagonal().mean().clamp(min=1e-12)
    damped_KK = gram_KK + DAMPING * mean * torch.eye(len(gram_KK))
    root_KK = torch.linalg.cholesky(damped_KK.flip(0, 1)).flip(0, 1)  # upper: gram = root root^T
    inverse_KK: Tensor = torch.linalg.solve_triangular(root_KK, torch.eye(len(gram_KK)), upper=True)
    return inverse_KK / inverse_KK.diagonal()[:, None]
