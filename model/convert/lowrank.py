"""Low-rank matrices: the truncated singular value decomposition.

No matrix of the same rank is nearer in the Frobenius norm: Eckart and Young (1936).

Shape suffixes: N rows, K columns, R rank.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class LowRank(NamedTuple):
    """The matrix b_NR @ a_RK."""

    a_RK: Tensor
    b_NR: Tensor

    def product(self) -> Tensor:
        return self.b_NR @ self.a_RK


@torch.no_grad()
def truncated_svd(w_NK: Tensor, rank: int) -> LowRank:
    """Returns the nearest matrix of at most this rank; it is `w_NK` itself from min(N, K) on.

    Both factors get the roots of the singular values, so that gradient steps move them alike. Beyond min(N, K)
    they are padded with zeros.
    """
    left_NM, values_M, right_MK = torch.linalg.svd(w_NK.double(), full_matrices=False)
    kept = min(rank, len(values_M))
    roots_R = values_M[:kept].sqrt()
    a_RK = torch.zeros(rank, w_NK.shape[1])
    b_NR = torch.zeros(w_NK.shape[0], rank)
    a_RK[:kept] = (roots_R[:, None] * right_MK[:kept]).float()
    b_NR[:, :kept] = (left_NM[:, :kept] * roots_R).float()
    return LowRank(a_RK, b_NR)
