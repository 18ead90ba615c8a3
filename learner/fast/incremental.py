"""The ridge head after every label, without solving again: a rank-k update of the base solution.

    A = A0 + Phi^T J Phi      S = S0 + Phi^T T      V = A0^-1 Phi^T      K = Phi V
    A^-1 = A0^-1 - V (I + J K)^-1 J V^T                                    (Woodbury 1950; Hager 1989)
    U = A^-1 S = U0 + V (I + J K)^-1 (T - J Phi U0)                        (the two lines above put together)

A row of Phi is what happened to one text since the base; its sign is on the diagonal of J, its targets are a row of T:

    learnt             J = +1      T = +1 for its class, in every memory
    taken out          J = -1      T = -1 for its class, in the memories that still count it
    relabelled         J =  0      T = -1 for the old class, +1 for the new one
    left a memory      J =  0      T = -1 for its class, in that memory

Where every sign is +-1, J^-1 = J, and U is U0 + V (J + K)^-1 (Y - Phi U0) with one-hot labels Y: the residual is what
the base gets wrong. All outputs share V and K, so another memory of class sums costs a column of T for each class.

The error does not grow with the stream: it is that of at most MAX_ROWS rows, and the next base is solved from the exact
sums. The two are compared then; a difference means that labels were lost or counted twice, and is an alarm.

Rejected: recursive least squares, which carries A^-1 from label to label (ACIL, Zhuang et al. 2022; GACL, Zhuang et al.
2024): without forgetting nothing contracts its rounding errors, so that it needs float64, 33 MB of which every batch
rewrites; with forgetting, A^-1 grows without bound where texts no longer come. Updating the Cholesky factor (Gill et
al. 1974): its rotations are no matrix products, and all outputs have to be solved again.

Shapes: B rows of a batch, N rows since the base, R features, C classes, M memories, O = C * M outputs: output
c * M + m is class c in memory m.
"""

from typing import Final

import torch
from torch import Tensor

from learner.errors import BaseRefused
from learner.fast.base_solution import BaseSolution
from learner.fast.ridge import on_grid

MAX_ROWS: Final = 512
"""The most rows since the base."""

MAX_GAP: Final = 1e-3
"""The largest difference from the next base, relative to its norm."""


class IncrementalHead:
    """Holds a base and the rows since. Rows are only appended, so other threads may read what the first ones make."""

    def __init__(self, base: BaseSolution, *, num_memories: int = 1) -> None:
        num_outputs, num_features = base.weights_OR.shape
        self.base = base
        self.num_memories = num_memories
        self._phi_NR = torch.zeros(MAX_ROWS, num_features)
        self._v_NR = torch.zeros(MAX_ROWS, num_features)
        self._k_NN = torch.zeros(MAX_ROWS, MAX_ROWS, dtype=torch.float64)
        self._gram_NN = torch.zeros(MAX_ROWS, MAX_ROWS)  # V^T V
        self._signs_N = torch.zeros(MAX_ROWS, dtype=torch.float64)
        self._targets_NO = torch.zeros(MAX_ROWS, num_outputs, dtype=torch.int8)
        self._residuals_NO = torch.zeros(MAX_ROWS, num_outputs)
        self._solution_NO = torch.zeros(0, num_outputs)
        self.num_rows = 0
        """The number of rows since the base. The next base has to come before they are MAX_ROWS."""

    def learn_many(self, phi_BR: Tensor, rows_B: Tensor) -> None:
        """Learns texts of the classes `rows_B`, which every memory counts."""
        counts_BM = torch.ones(len(rows_B), self.num_memories, dtype=torch.bool)
        self._append(phi_BR, torch.ones(len(phi_BR)), self._one_hot(rows_B, counts_BM))

    def unlearn_many(self, phi_BR: Tensor, rows_B: Tensor, counts_BM: Tensor) -> None:
        """Takes out texts that were learnt. `counts_BM`: whether each memory still counted the label."""
        self._append(phi_BR, -torch.ones(len(phi_BR)), -self._one_hot(rows_B, counts_BM))

    def relabel_many(self, phi_BR: Tensor, old_B: Tensor, new_B: Tensor, counts_BM: Tensor) -> None:
        """Corrects the labels of texts that were learnt, in the memories that still count them."""
        targets_BO = self._one_hot(new_B, counts_BM) - self._one_hot(old_B, counts_BM)
        self._append(phi_BR, torch.zeros(len(phi_BR)), targets_BO)

    def fade_many(self, phi_BR: Tensor, rows_B: Tensor, leaves_BM: Tensor) -> None:
        """Takes labels out of the memories that count them no longer. The texts stay in the Gram matrix."""
        self._append(phi_BR, torch.zeros(len(phi_BR)), -self._one_hot(rows_B, leaves_BM))

    def weights(self, rows_C: Tensor) -> Tensor:
        """Returns the weights of these classes as of now, weights_CMR, not divided by the root of the counts."""
        outputs_O = self.outputs_of(rows_C)
        weights_OR = self.base.weights_OR[outputs_O] + self._product(self.solution_NO[:, outputs_O])
        return weights_OR.view(len(rows_C), self.num_memories, weights_OR.shape[1])

    def outputs_of(self, rows_C: Tensor) -> Tensor:
        """Returns the outputs of these classes: every memory of the first, then of the second, and so on."""
        return (rows_C[:, None] * self.num_memories + torch.arange(self.num_memories)).flatten()

    @property
    def solution_NO(self) -> Tensor:
        """X = (I + J K)^-1 (T - J Phi U0) of all rows: the weights are U0 + V X."""
        if len(self._solution_NO) != self.num_rows:
            self._solution_NO = self._solve(self.num_rows)
        return self._solution_NO

    def lengths(self, solution_NO: Tensor) -> Tensor:
        """Returns the norm of V x of each column x, without R operations a column: x^T (V^T V) x."""
        num_rows = len(solution_NO)
        squares_NO = solution_NO * (self._gram_NN[:num_rows, :num_rows] @ solution_NO)
        return squares_NO.sum(dim=0).clamp(min=0).sqrt()

    def gap(self, base: BaseSolution, num_rows: int) -> float:
        """Returns how far the weights after the first `num_rows` rows are from those of `base`.

        That is relative to the norm of the larger base: everything may have been taken out since ours.
        """
        weights_OR = self.base.weights_OR + self._product(self._solve(num_rows))
        norm = max(float(base.weights_OR.norm()), float(self.base.weights_OR.norm()))
        return float((weights_OR - base.weights_OR).norm()) / (norm if norm > 0 else 1.0)

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

    def rebased(self, base: BaseSolution, num_rows: int) -> "IncrementalHead":
        """Returns the same head on the next base, which holds the first `num_rows` rows; the others follow it.

        Raises what `check_base` raises.
        """
        self.check_base(base, num_rows)
        rest = slice(num_rows, self.num_rows)
        head = IncrementalHead(base, num_memories=self.num_memories)
        head._append(self._phi_NR[rest], self._signs_N[rest], self._targets_NO[rest])
        return head

    def _one_hot(self, rows_B: Tensor, counts_BM: Tensor) -> Tensor:
        """Returns targets_BO: 1 for the class of the row in each memory that counts it."""
        num_outputs = self._targets_NO.shape[1]
        targets_BO = torch.zeros(len(rows_B), num_outputs, dtype=torch.int8)
        outputs_BM = self.outputs_of(rows_B).view(counts_BM.shape)
        return targets_BO.scatter_(1, outputs_BM, counts_BM.to(torch.int8))

    def _append(self, phi_BR: Tensor, signs_B: Tensor, targets_BO: Tensor) -> None:
        """Appends rows. Raises ValueError beyond MAX_ROWS."""
        first = self.num_rows
        last = first + len(phi_BR)
        if last > MAX_ROWS:
            raise ValueError(f"{last} rows since the base; expected at most {MAX_ROWS}: solve the next base before")
        phi_BR = on_grid(phi_BR).float()
        v_BR = self.base.inverse_times(phi_BR)
        self._phi_NR[first:last] = phi_BR
        self._v_NR[first:last] = v_BR
        self._signs_N[first:last] = signs_B
        self._targets_NO[first:last] = targets_BO
        self._residuals_NO[first:last] = targets_BO - signs_B.float()[:, None] * (phi_BR @ self.base.weights_OR.T)
        v_RN = self._v_NR[:last].double().T
        k_BN = phi_BR.double() @ v_RN
        self._k_NN[:last, first:last] = k_BN.T
        self._k_NN[first:last, :last] = k_BN
        gram_BN = (v_BR.double() @ v_RN).float()
        self._gram_NN[:last, first:last] = gram_BN.T
        self._gram_NN[first:last, :last] = gram_BN
        self.num_rows = last

    def _solve(self, num_rows: int) -> Tensor:
        """Returns the solution of the first rows. The small matrices are float64: K has entries of 1e-2 to 7."""
        k_NN = self._k_NN[:num_rows, :num_rows]
        inner_NN = torch.eye(num_rows, dtype=torch.float64) + self._signs_N[:num_rows, None] * k_NN
        inverse_NN: Tensor = torch.linalg.inv(inner_NN).float()
        return inverse_NN @ self._residuals_NO[:num_rows]

    def _product(self, solution_NO: Tensor) -> Tensor:
        """Returns V x of each column x, as rows."""
        return solution_NO.T @ self._v_NR[: len(solution_NO)]
