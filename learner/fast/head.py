"""The interface of all heads, and the rows of their classes.

Shapes: B samples, D or R features, C classes in the order in which they came.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Head(Protocol):
    """A classifier that learns sample by sample. Any order and any batches of the same samples give the same head."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The label of each row."""

    def admit(self, label: str) -> bool:
        """Gives `label` a row if it has none. False when all rows are taken."""

    def learn_many(self, x_BD: Tensor, labels: Sequence[str]) -> None:
        """Learns samples of admitted labels. Raises KeyError for another label."""

    def predict_many(self, x_BD: Tensor) -> Tensor:
        """Returns scores_BC; the highest wins. A class without a sample never wins while another class has one."""


class ClassRows:
    """Maps labels to rows, at most `capacity` of them."""

    def __init__(self, capacity: int, labels: Sequence[str] = ()) -> None:
        self._capacity = capacity
        self._rows = {label: row for row, label in enumerate(labels)}

    def admit(self, label: str) -> bool:
        if label not in self._rows and len(self._rows) < self._capacity:
            self._rows[label] = len(self._rows)
        return label in self._rows

    def replace(self, old: str, new: str) -> None:
        """Gives the row of `old` to `new`, which has none."""
        self._rows = {new if label == old else label: row for label, row in self._rows.items()}

    def of(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return torch.tensor([self._rows[label] for label in labels], dtype=torch.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
