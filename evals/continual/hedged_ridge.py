"""Our learner of tables that drift: ridge heads of different memory, weighed by how well each did lately.

    row --standardise--> z --random features--> phi --W of each memory--> scores  --Hedge--> class
                                                last label ("as last time") ----'

The fast head of the text model (random features, ridge in closed form), with memories of different length instead of
one that forgets nothing. Hedge (Freund and Schapire 1997) with losses that fade gives most of the weight to what did
best in the last hundred rows or so: after a change to the short memories, later back to the long ones.

All settings were chosen on the first fifth of Elec2. Rejected there: starting the longest memory anew when ADWIN finds
drift, as a forest does (no gain beyond noise: a short memory beside it has the same effect without a threshold); and
standardising over 200 rows (0.7 points better, but the mean of a price over a few days comes close to the mean over
24 hours that defines the label).

Shape suffixes: N rows, F inputs, M features, C classes, E memories and the last label.
"""

import math
from typing import Final

import torch
from torch import Tensor

from evals.continual.forgetting import ForgettingRidge
from evals.streams.stage import Part

NUM_RANDOM: Final = 256
FACTORS: Final = (1.0, 0.999, 0.99)
"""Forgetting factors: a memory of everything, of about 1,000 rows, of about 100."""
RIDGE: Final = 0.1
RATE: Final = 1e-3
"""Weight of a new row in the running mean and variance, once there were 1,000: three weeks of Elec2."""
CLIP: Final = 4.0
"""Largest standardised value: a column that stood still may jump by any number of deviations."""
FADE: Final = 0.99
"""What is left of a loss after each row."""
ETA: Final = 2.0
"""Hedge's learning rate."""


class HedgedRidge:
    """A contender for rows of numbers. It keeps no rows."""

    precision = "fp64"
    num_bytes = 0

    def __init__(self, num_inputs: int, num_classes: int, *, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self._projection_MF = torch.randn(NUM_RANDOM, num_inputs, generator=rng).double() / math.sqrt(num_inputs)
        self._bias_M = 0.5 * torch.randn(NUM_RANDOM, generator=rng).double()
        num_features = NUM_RANDOM + num_inputs + 1
        self._ridge = ForgettingRidge(num_features, num_classes, factors=FACTORS, ridge=RIDGE)
        self._scale = Standard(num_inputs)
        self._one_hot_CC = torch.eye(num_classes, dtype=torch.float64)
        self._last_C = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
        self._losses_E = torch.zeros(len(FACTORS) + 1, dtype=torch.float64)

    def predict_many(self, inputs_NF: Tensor) -> Tensor:
        """The class ids, int64 [N]; all rows as the next one."""
        weights_E = torch.softmax(-ETA * self._losses_E, dim=0)
        scores = [weights_E @ self._opinions(self._features(row_F)) for row_F in inputs_NF]
        return torch.stack(scores).argmax(dim=1)

    def learn_many(self, part: Part[Tensor]) -> None:
        """Learn row after row: first what each memory would have said is weighed, then it is told."""
        for row_F, label in zip(part.inputs, part.labels_N.tolist(), strict=True):
            phi_M = self._features(row_F)
            target_C = self._one_hot_CC[label]
            misses_E = (self._opinions(phi_M) - target_C).square().sum(dim=1) / 2
            self._losses_E = FADE * self._losses_E + misses_E
            self._ridge.learn_one(phi_M, target_C)
            self._scale.learn_one(row_F)
            self._last_C = target_C

    def _opinions(self, phi_M: Tensor) -> Tensor:
        """scores_EC in [0, 1] of each memory, and of the last label."""
        return torch.cat([self._ridge.predict_one(phi_M).clamp(0, 1), self._last_C[None]])

    def _features(self, row_F: Tensor) -> Tensor:
        z_F = self._scale(row_F)
        random_M = torch.relu(self._projection_MF @ z_F + self._bias_M) * (2 / math.sqrt(NUM_RANDOM))
        return torch.cat([random_M, z_F, z_F.new_ones(1)])


class Standard:
    """Standardises inputs by a mean and a variance that follow the stream."""

    def __init__(self, num_inputs: int) -> None:
        self._mean_F = torch.zeros(num_inputs, dtype=torch.float64)
        self._variance_F = torch.ones(num_inputs, dtype=torch.float64)
        self._num_rows = 0

    def __call__(self, row_F: Tensor) -> Tensor:
        return ((row_F.double() - self._mean_F) / (self._variance_F + 1e-6).sqrt()).clamp(-CLIP, CLIP)

    def learn_one(self, row_F: Tensor) -> None:
        self._num_rows += 1
        rate = max(1 / self._num_rows, RATE)
        step_F = row_F.double() - self._mean_F
        self._mean_F = self._mean_F + rate * step_F
        self._variance_F = (1 - rate) * (self._variance_F + rate * step_F.square())
