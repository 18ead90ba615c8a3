"""Implements our learner for tables with drift: ridge heads that forget at different rates, weighted by recent losses.

    row --standardise--> z --random features--> phi --W of each memory--> scores  --Hedge--> class
                                                last label (no change) ---------'

It is the fast head of the text model (random features, closed-form ridge) with several memories of different lengths.
Hedge (Freund and Schapire 1997) with discounted losses gives most of the weight to the experts that were best in about
the last hundred rows: to the short memories after a change, and later to the long memories again.

Each memory is a ridge regression with exponential forgetting (`ForgettingRidge`), about 1 / (1 - f) rows long:

    G <- f G + x x' + (1 - f) r I      C <- f C + y x'      W = C G^-1          f: forgetting factor, r: ridge penalty

Recursive least squares (RLS; Haykin, Adaptive Filter Theory, chapter 10) stores W and P = G^-1 instead of the sums, so
an update after each row costs M^2 operations. Plain RLS also forgets the penalty: if a column is constant for a long
time, P grows without bound. So each row restores the penalty of one coordinate, in turn, by the amount that was
forgotten since the coordinate's last turn (Gay 1996, dynamically regularized RLS). Both updates have rank one and are
written as u u', which keeps P symmetric bit for bit. Otherwise the factor 1 / f would amplify the rounding difference
between the two halves of P until it dominated.

All settings were chosen on the first fifth of Elec2.

Shape suffixes: N rows, F inputs, M features, C classes, E experts (the memories and the last label).
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from evals.continual.contender import Contender, Traits, Usage
from evals.streams.benchmark import Part

NUM_RANDOM: Final = 256
FACTORS: Final = (1.0, 0.999, 0.99)
"""The forgetting factors: for a memory of all rows, of about 1,000 rows, and of about 100 rows."""
RIDGE: Final = 0.1
"""The ridge penalty."""
RATE: Final = 1e-3
"""The weight of a new row in the running mean and variance after 1,000 rows, which are three weeks of Elec2."""
CLIP: Final = 4.0
"""Standardised values are clipped to [-CLIP, CLIP]: a column that was constant may jump by many deviations."""
DISCOUNT: Final = 0.99
"""The factor by which past losses are discounted after each row."""
ETA: Final = 2.0
"""Hedge's learning rate."""


class HedgedRidge(Contender[Tensor]):
    """A contender for tables: an ensemble of ridge heads and the last label. It stores no rows."""

    traits = Traits(precision="fp64")
    usage = Usage()

    def __init__(self, num_inputs: int, num_classes: int, *, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self._projection_MF = torch.randn(NUM_RANDOM, num_inputs, generator=rng).double() / math.sqrt(num_inputs)
        self._bias_M = 0.5 * torch.randn(NUM_RANDOM, generator=rng).double()
        num_features = NUM_RANDOM + num_inputs + 1
        self._ridge = ForgettingRidge(num_features, num_classes, factors=FACTORS, ridge=RIDGE)
        self._scale = StandardScaler(num_inputs)
        self._one_hot_CC = torch.eye(num_classes, dtype=torch.float64)
        self._last_C = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
        self._losses_E = torch.zeros(len(FACTORS) + 1, dtype=torch.float64)

    def predict_many(self, inputs_NF: Tensor) -> Tensor:
        """Returns the predicted class ids, int64 [N]. Every row is predicted as the next row after the learnt ones."""
        weights_E = torch.softmax(-ETA * self._losses_E, dim=0)
        scores = [weights_E @ self._expert_scores(self._features(row_F)) for row_F in inputs_NF]
        return torch.stack(scores).argmax(dim=1)

    def learn_many(self, part: Part[Tensor]) -> None:
        """Learns row after row: updates the losses of the experts with their predictions, then learns the row."""
        for row_F, label in zip(part.inputs, part.labels_N.tolist(), strict=True):
            phi_M = self._features(row_F)
            target_C = self._one_hot_CC[label]
            new_losses_E = (self._expert_scores(phi_M) - target_C).square().sum(dim=1) / 2
            self._losses_E = DISCOUNT * self._losses_E + new_losses_E
            self._ridge.learn(phi_M, target_C)
            self._scale.learn(row_F)
            self._last_C = target_C

    def _expert_scores(self, phi_M: Tensor) -> Tensor:
        """Returns scores_EC in [0, 1] of the memories, followed by the last label."""
        return torch.cat([self._ridge.predict_one(phi_M).clamp(0, 1), self._last_C[None]])

    def _features(self, row_F: Tensor) -> Tensor:
        z_F = self._scale(row_F)
        random_M = torch.relu(self._projection_MF @ z_F + self._bias_M) * (2 / math.sqrt(NUM_RANDOM))
        return torch.cat([random_M, z_F, z_F.new_ones(1)])


class StandardScaler:
    """Standardises inputs by their running mean and variance."""

    def __init__(self, num_inputs: int) -> None:
        self._mean_F = torch.zeros(num_inputs, dtype=torch.float64)
        self._variance_F = torch.ones(num_inputs, dtype=torch.float64)
        self._num_rows = 0

    def __call__(self, row_F: Tensor) -> Tensor:
        return ((row_F.double() - self._mean_F) / (self._variance_F + 1e-6).sqrt()).clamp(-CLIP, CLIP)

    def learn(self, row_F: Tensor) -> None:
        self._num_rows += 1
        rate = max(1 / self._num_rows, RATE)
        step_F = row_F.double() - self._mean_F
        self._mean_F = self._mean_F + rate * step_F
        self._variance_F = (1 - rate) * (self._variance_F + rate * step_F.square())


class ForgettingRidge:
    """E ridge regressions with different forgetting factors on the same rows, in float64."""

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
        """Applies the forgetting factors, and learns one row."""
        self._inverse_EMM /= self._factors_E[:, None, None]
        g_EM = self._inverse_EMM @ x_M
        self._absorb(g_EM, g_EM @ x_M, target_C - self.predict_one(x_M), torch.ones_like(self._factors_E))
        # Restore the penalty of the coordinate whose turn it is: a row with a single 1, and the target 0.
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
