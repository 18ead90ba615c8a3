"""Implements the nearest class mean. A class's direction is the sum of its samples (Mensink et al. 2013; iCaRL)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from learner.fast.head import ClassRows


class NearestMean:
    """Stores the sum of each class, and its direction. The scores are cosines."""

    def __init__(self, num_features: int, capacity: int) -> None:
        self._rows = ClassRows(capacity)
        self._sums_CD = torch.zeros(capacity, num_features, dtype=torch.float64)
        self._directions_CD = torch.zeros(capacity, num_features)
        self._bias_C = torch.full((capacity,), -torch.inf)
        """Zero where a class has a sample, so that no other class wins."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self._rows.labels

    def admit(self, label: str) -> bool:
        return self._rows.admit(label)

    def learn_many(self, x_BD: Tensor, labels: Sequence[str]) -> None:
        rows_B = self._rows.of(labels)
        self._sums_CD.index_add_(0, rows_B, x_BD.double())
        self._directions_CD[rows_B] = functional.normalize(self._sums_CD[rows_B], dim=1).float()
        self._bias_C[rows_B] = 0.0

    def predict_many(self, x_BD: Tensor) -> Tensor:
        num_classes = len(self._rows)
        directions_CD = self._directions_CD[:num_classes]
        return functional.normalize(x_BD, dim=1) @ directions_CD.T + self._bias_C[:num_classes]
