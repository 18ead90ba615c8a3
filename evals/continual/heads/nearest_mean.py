"""Implements the nearest class mean. A class's direction is the sum of its samples (Mensink et al. 2013; iCaRL)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from learner.fast.head import ClassRows


class NearestMean:
    """Stores the sum of each class. The scores are cosines."""

    def __init__(self, num_features: int, capacity: int) -> None:
        self._rows = ClassRows(capacity)
        self._sums_CD = torch.zeros(capacity, num_features, dtype=torch.float64)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._rows.labels

    def admit(self, label: str) -> bool:
        return self._rows.admit(label)

    def learn_many(self, x_BD: Tensor, labels: Sequence[str]) -> None:
        self._sums_CD.index_add_(0, self._rows.of(labels), x_BD.double())

    def predict_many(self, x_BD: Tensor) -> Tensor:
        sums_CD = self._sums_CD[: len(self._rows)]
        scores_BC = functional.normalize(x_BD, dim=1) @ functional.normalize(sums_CD, dim=1).float().T
        return scores_BC.masked_fill(~sums_CD.any(dim=1), -torch.inf)
