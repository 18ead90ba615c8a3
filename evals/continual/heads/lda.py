"""Implements streaming linear discriminant analysis: one mean for each class, one covariance for all.

    S += x^T x   m[y] += x   n[y] += 1      Sigma = (S - sum_c n_c mu_c mu_c^T) / N
    L = [(1 - e) Sigma + e t I]^-1          score_c = x L mu_c - mu_c L mu_c / 2

The source is Hayes and Kanan 2020 (arXiv:1909.01520), equations 1 to 5. Their running covariance depends on the order
of the samples; here it is computed from sums, which do not. t is the mean variance, so that the shrinkage e is a share.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from evals.continual.heads.nearest_mean import NearestMean

SHRINKAGE: Final = 1e-2
"""The shrinkage e: 93.3 % on CLINC150's validation texts; 0.1 gives 93.0, 0.03 93.2, 0.003 93.3."""


class StreamingLda(NearestMean):
    """The nearest mean in the metric of the covariance that all classes share.

    Stores the sums. `learn_many` costs D^2 for each sample; `predict_many` solves first, which costs D^3/3.
    """

    def __init__(self, num_features: int, capacity: int, *, shrinkage: float = SHRINKAGE) -> None:
        super().__init__(num_features, capacity)
        self._shrinkage = shrinkage
        self._outer_DD = torch.zeros(num_features, num_features, dtype=torch.float64)
        self._counts_C = torch.zeros(capacity, dtype=torch.float64)

    def learn_many(self, x_BD: Tensor, labels: Sequence[str]) -> None:
        super().learn_many(x_BD, labels)
        x_BD = x_BD.double()
        self._outer_DD.addmm_(x_BD.T, x_BD)
        self._counts_C.index_add_(0, self._rows.of(labels), torch.ones(len(labels), dtype=torch.float64))

    def predict_many(self, x_BD: Tensor) -> Tensor:
        weights_CD, bias_C = self._solve()
        return x_BD @ weights_CD.float().T + bias_C.float()

    def _solve(self) -> tuple[Tensor, Tensor]:
        counts_C = self._counts_C[: len(self._rows)]
        means_CD = self._sums_CD[: len(self._rows)] / counts_C.clamp(min=1)[:, None]
        covariance_DD = (self._outer_DD - (means_CD * counts_C[:, None]).T @ means_CD) / counts_C.sum().clamp(min=1)
        variance = covariance_DD.diagonal().mean().clamp(min=1e-9)
        covariance_DD *= 1 - self._shrinkage
        covariance_DD.diagonal().add_(self._shrinkage * variance)
        weights_CD = torch.cholesky_solve(means_CD.T, torch.linalg.cholesky(covariance_DD)).T
        bias_C = -0.5 * (weights_CD * means_CD).sum(dim=1)
        return weights_CD, bias_C.masked_fill(counts_C == 0, -torch.inf)
