"""The ridge head after every label, without solving again: a rank-k update of the base solution.

    A = A0 + Phi^T Phi      S = S0 + Phi^T Y      V = A0^-1 Phi^T      K = Phi V
    A^-1 = A0^-1 - V (I + K)^-1 V^T                                    (Woodbury 1950; Hager 1989)
    U = A^-1 S = U0 + V (I + K)^-1 (Y - Phi U0)                        (the two lines above put together)

A row of Phi is a text that was learnt since the base, and a row of Y has a 1 for each of its classes: the residual is
what the base gets wrong. Where texts or labels are taken out, a new base is solved (`learner.fast.solver`).

The error does not grow with the stream: it is that of at most MAX_ROWS rows, and the next base is solved from the exact
sums. The two are compared then; a difference means that labels were lost or counted twice, and is an alarm.

Rejected: recursive least squares, which carries A^-1 from label to label (ACIL, Zhuang et al. 2022; GACL, Zhuang et al.
2024): without forgetting nothing contracts its rounding errors, so that it needs float64, 33 MB of which every batch
rewrites; with forgetting, A^-1 grows without bound where texts no longer come. Updating the Cholesky factor (Gill et
al. 1974): its rotations are no matrix products, and all outputs have to be solved again.

Shapes: B rows of a batch, N rows since the base, R features, C classes.
"""

from typing import Final

import torch
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.base_solution import BaseSolution
from learner.fast.head import Entries
from learner.fast.ridge import on_grid
from learner.fast.row_log import MAX_ROWS

MAX_GAP: Final = 2e-4
"""The largest difference from the next base, relative to that: rounding makes up to 3e-5, one label of 12,000 that one
of the two lacks 7e-4 or more."""

NUM_PROBES: Final = 8
"""Random mixtures of the classes by which two heads are compared, so that many classes take no longer than a few."""


class IncrementalHead:
    """Holds a base and the rows since. Rows are only appended, so other threads may read what the first ones make."""

    def __init__(self, base: BaseSolution) -> None:
        num_classes, num_features = base.weights_CR.shape
        self.base = base
        self._v_NR = torch.zeros(MAX_ROWS, num_features)
        self._k_NN = torch.zeros(MAX_ROWS, MAX_ROWS, dtype=torch.float64)
        self._residuals_NC = torch.zeros(MAX_ROWS, num_classes)
        self._solution_NC = torch.zeros(0, num_classes)
        self.num_rows = 0
        """The number of rows since the base. The next base has to come before they are MAX_ROWS."""

    def learn_many(self, phi_BR: Tensor, entries: Entries) -> None:
        """Learns texts of these classes. Raises ValueError beyond MAX_ROWS."""
        first = self.num_rows
        last = first + len(phi_BR)
        if last > MAX_ROWS:
            raise ValueError(f"{last} rows since the base; expected at most {MAX_ROWS}: solve the next base before")
        phi_BR = on_grid(phi_BR).float()
        v_BR = self.base.inverse_times(phi_BR)
        self._v_NR[first:last] = v_BR
        targets_BC = entries.targets(len(phi_BR), len(self.base.weights_CR))
        self._residuals_NC[first:last] = targets_BC - phi_BR @ self.base.weights_CR.T
        k_BN = phi_BR.double() @ self._v_NR[:last].double().T
        self._k_NN[:last, first:last] = k_BN.T
        self._k_NN[first:last, :last] = k_BN
        self.num_rows = last

    def weights(self, rows_C: Tensor) -> Tensor:
        """Returns the weights of these classes as of now, weights_CR, without the factors of their rows."""
        if len(self._solution_NC) != self.num_rows:
            self._solution_NC = self._solve(self.num_rows)
        weights_CR: Tensor = self.base.weights_CR[rows_C] + self._product(self._solution_NC[:, rows_C])
        return weights_CR

    def gap(self, base: BaseSolution, num_rows: int) -> float:
        """Returns how far the weights after the first `num_rows` rows are from those of `base`, by what they answer.

        That is the norm |L^T u| of what is solved, which weighs each direction by the texts that lie in it, and is
        relative to that of the larger base: everything may have been taken out since ours. The norm of the weights
        themselves would be that of the directions of hardly any text, where rounding is the largest.
        """
        signs = torch.randint(0, 2, (len(base.weights_CR), NUM_PROBES), generator=torch.Generator().manual_seed(0))
        probes_CK = 2.0 * signs - 1.0

        def norm(weights_CR: Tensor) -> float:
            return float((base.factor_RR.T @ (weights_CR.T @ probes_CK)).norm())

        larger = max(norm(base.weights_CR), norm(self.base.weights_CR))
        weights_CR = self.base.weights_CR + self._product(self._solve(num_rows))
        return norm(weights_CR - base.weights_CR) / (larger if larger > 0 else 1.0)

    def check_base(self, base: BaseSolution, num_rows: int) -> None:
        """Raises BaseRefused where the weights after the first `num_rows` rows are not those of `base`, the next one.

        Bases of different penalties are not compared, as they are to differ.
        """
        gap = self.gap(base, num_rows) if base.penalty == self.base.penalty else 0.0
        if not gap <= MAX_GAP:  # written so that a NaN is refused
            raise BaseRefused(
                f"the weights after {num_rows} rows differ from the next base by {gap:.2g} of its norm; expected at "
                f"most {MAX_GAP:g}: rows and sums have not seen the same labels, so start anew on a base of the sums"
            )

    def _solve(self, num_rows: int) -> Tensor:
        """Returns X = (I + K)^-1 (Y - Phi U0) of the first rows. The small matrices are float64: K is 1e-2 to 7."""
        inner_NN = torch.eye(num_rows, dtype=torch.float64) + self._k_NN[:num_rows, :num_rows]
        factor_NN = torch.linalg.cholesky(inner_NN)
        return torch.cholesky_solve(self._residuals_NC[:num_rows].double(), factor_NN).float()

    def _product(self, solution_NC: Tensor) -> Tensor:
        """Returns V x of each column x, as rows."""
        return solution_NC.T @ self._v_NR[: len(solution_NC)]
