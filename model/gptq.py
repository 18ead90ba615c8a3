"""Rounding a matrix so that the errors cancel on the inputs it will see.

    for each input, largest first: round its column; what was lost goes into the columns that are not rounded yet

How much of an error the others can make up for is in the Gram matrix of the inputs (their second moments): GPTQ,
Frantar et al., arXiv 2210.17323, equation 3, with the Cholesky factor of its inverse. Here both planes of a nested
weight are rounded in the same pass, each with its own errors: q8 as it comes, hi to the nearest that leaves a lo for
that q8.

Rejected: rounding the planes one after the other. INT8 first leaves INT4 the same choices and costs a second pass; INT4
first makes INT8 follow it.

Shape suffixes: N outputs, K inputs, S = 2N rows (q8 above, q4 below), R inputs of a run.
"""

import torch
from torch import Tensor

from model.nested import MAX_Q8

DAMPING = 0.01
"""Share of the mean second moment that is added to each: keeps inputs that were never seen out of the sums."""

_RUN = 64
"""Inputs after which the errors are passed on to all that follow, in one product."""

_LOWEST = -8
_HIGHEST = 7


def gptq_round(w_NK: Tensor, m_NK: Tensor, gram_KK: Tensor) -> tuple[Tensor, Tensor]:
    """q8_NK and hi_NK, int8, of the weight in units of its scale, such that hi and q8 - m * hi are nibbles.

    `m_NK` are the multipliers, one for each input; `gram_KK` is the mean of x x^T over inputs x.
    """
    order_K = gram_KK.diagonal().argsort(descending=True, stable=True)
    follow_KK = _followers(gram_KK[order_K][:, order_K])
    w_KN = w_NK[:, order_K].t()
    m_KN = m_NK[:, order_K].t().float()
    num_in, num_rows = w_KN.shape
    w_KS = torch.cat((w_KN, w_KN), dim=1)
    q8_KN = torch.empty(num_in, num_rows)
    hi_KN = torch.empty(num_in, num_rows)
    for first in range(0, num_in, _RUN):
        run_RS = w_KS[first : first + _RUN]
        error_RS = torch.empty_like(run_RS)
        for place, w_S in enumerate(run_RS):
            k = first + place
            m_N = m_KN[first + place]
            q8_KN[k], hi_KN[k] = _round(w_S[:num_rows], w_S[num_rows:], m_N)
            torch.sub(w_S, torch.cat((q8_KN[k], hi_KN[k] * m_N)), out=error_RS[place])
            run_RS[place + 1 :].addr_(follow_KK[k, k + 1 : first + len(run_RS)], error_RS[place], alpha=-1)
        end = first + len(run_RS)
        w_KS[end:].addmm_(follow_KK[first:end, end:].t(), error_RS, alpha=-1)
    back_K = order_K.argsort()
    return q8_KN[back_K].t().to(torch.int8), hi_KN[back_K].t().to(torch.int8)


def _round(w8_N: Tensor, w4_N: Tensor, m_N: Tensor) -> tuple[Tensor, Tensor]:
    largest = torch.tensor(float(MAX_Q8))
    lowest_N = torch.maximum(_LOWEST * (m_N + 1), -largest)
    highest_N = torch.minimum(_HIGHEST * (m_N + 1), largest)
    q8_N = torch.round(w8_N).clamp_(lowest_N, highest_N)
    first_N = torch.ceil((q8_N - _HIGHEST) / m_N).clamp_(min=_LOWEST)
    last_N = torch.floor((q8_N - _LOWEST) / m_N).clamp_(max=_HIGHEST)
    return q8_N, torch.round(w4_N / m_N).clamp_(first_N, last_N)


def _followers(gram_KK: Tensor) -> Tensor:
    """follow[k, l]: by how much input l > k makes up for an error of input k."""
    mean = gram_KK.diagonal().mean().clamp(min=1e-12)
    damped_KK = gram_KK + DAMPING * mean * torch.eye(len(gram_KK))
    root_KK = torch.linalg.cholesky(damped_KK.flip(0, 1)).flip(0, 1)  # upper: gram = root root^T
    inverse_KK: Tensor = torch.linalg.solve_triangular(root_KK, torch.eye(len(gram_KK)), upper=True)
    return inverse_KK / inverse_KK.diagonal()[:, None]
