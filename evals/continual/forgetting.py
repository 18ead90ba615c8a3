"""Implements ridge regression with exponential forgetting, in closed form: memories of different length side by side.

    G <- f G + x x' + (1 - f) r I      C <- f C + y x'      W = C G^-1          f: forgetting factor, r: ridge penalty

This is `RidgeHead` with a memory of about 1 / (1 - f) rows. Recursive least squares (Haykin, Adaptive Filter Theory,
chapter 10) stores W and P = G^-1 instead of the sums, so that every row counts for the next one at M^2 operations. It
also forgets the penalty: where a column is constant for long, P grows without bound. So each row restores the penalty
of one coordinate, in turn: what was forgotten since the coordinate's last turn (Gay 1996, dynamically regularized RLS).
Both are updates of rank one, written as u u', which keeps P symmetric bit for bit. Otherwise 1 / f amplifies the
rounding difference between the halves of P until nothing else is left.

Rejected: solving the sums for each row (M^3), or for each block of rows (as costly at 8 rows, and 8 rows behind).

Shape suffixes: E memories, C classes, M features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class ForgettingRidge:
    """Fits E ridge regressions to the same rows, all in float64."""

    def __init__(self, num_features: int, num_classes: int, *, factors: Sequence[float], ridge: float) -> None:
        self._factors_E = torch.tensor(factors, dtype=torch.float64)
        self._inverse_EMM = torch.eye(num_features, dtype=torch.float64).repeat(len(factors), 1, 1) / ridge
        self._weights_ECM = torch.zeros(len(factors), num_classes, num_features, dtype=torch.float64)
        self._penalty_E = (1 - self._factors_E) * ridge * num_features
        self._turn = 0

    def predict_one(self, x_M: Tensor) -> Tensor:
        """Returns scores_EC: about 0 for no, about 1 for yes."""
        return self._weights_ECM @ x_M

    def learn(self, x_M: Tensor, target_C: Tensor) -> None:
        """Forgets a little, and learns one row."""
        self._inverse_EMM /= self._factors_E[:, None, None]
        g_EM = self._inverse_EMM @ x_M
        self._absorb(g_EM, g_EM @ x_M, target_C - self.predict_one(x_M), torch.ones_like(self._factors_E))
        turn = self._turn
        self._turn = (turn + 1) % len(x_M)
        g_EM = self._inverse_EMM[:, :, turn].clone()
        self._absorb(g_EM, g_EM[:, turn], -self._weights_ECM[:, :, turn], self._penalty_E)

    def _absorb(self, g_EM: Tensor, norm_E: Tensor, error_EC: Tensor, weight_E: Tensor) -> None:
        """Learns a row x with a weight by the Sherman-Morrison formula: g = P x, norm = x' P x, error = y - W x."""
        scale_E = weight_E / (1 + weight_E * norm_E)
        self._weights_ECM += (scale_E[:, None] * error_EC)[:, :, None] * g_EM[:, None, :]
        u_EM = scale_E.sqrt()[:, None] * g_EM
        self._inverse_EMM.baddbmm_(u_EM[:, :, None], u_EM[:, None, :], alpha=-1)
