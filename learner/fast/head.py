"""The interface of all heads, the rows of their classes, and the tables that have a value for each row.

    class --admit--> row --rows_for--> tables grow with the classes that are known, up to the capacity

Rejected: tables of the capacity (a head for 10,000 classes would take half a gigabyte before the first label), and
tables of exactly the known classes (each new class would copy them, and change the shape of the stored head).

Shapes: B samples, E entries (a pair of a sample and one of its classes), D or R features, C classes in the order in
which they came.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from learner.export import rows_for
from wire.targets import VALUE_ROW, is_set, is_value, names_of, value_of


class OnlineClassifier(Protocol):
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


class Entries(NamedTuple):
    """The rows of the classes that the labels of B samples name: one of each, or as many as its set has.

    `places_E` are those of the samples; None where each sample has one entry, in their order. `values_E` are what the
    rows are fitted to, where labels are scores; else that is 1.
    """

    rows_E: Tensor
    places_E: Tensor | None = None
    values_E: Tensor | None = None

    @property
    def are_classes(self) -> bool:
        """Whether each label is a class, and not a set of them or a score."""
        return self.places_E is None and self.values_E is None

    def of(self, x_BD: Tensor) -> Tensor:
        """Returns the values of each entry's sample."""
        return x_BD if self.places_E is None else x_BD[self.places_E]

    def sums_of(self, phi_BR: Tensor) -> Tensor:
        """Returns what each entry adds to the column of its row."""
        return self.of(phi_BR) if self.values_E is None else phi_BR * self.values_E[:, None]

    def targets(self, num_samples: int, num_classes: int) -> Tensor:
        """Returns 1 (or its score) for each class that a sample has and 0 for all others, float32 [B, C]."""
        places_E = torch.arange(num_samples) if self.places_E is None else self.places_E
        targets_BC = torch.zeros(num_samples, num_classes)
        targets_BC[places_E, self.rows_E] = 1.0 if self.values_E is None else self.values_E.float()
        return targets_BC


class ClassRows:
    """Maps labels to rows, at most `capacity` of them."""

    def __init__(self, capacity: int, labels: Sequence[str] = ()) -> None:
        self._capacity = capacity
        self._rows = {label: row for row, label in enumerate(labels)}
        self._labels = tuple(self._rows)

    def admit(self, label: str) -> bool:
        if label not in self._rows and len(self._rows) < self._capacity:
            self._rows[label] = len(self._rows)
        return label in self._rows

    def replace(self, old: str, new: str) -> None:
        """Gives the row of `old` to `new`, which has none."""
        self._rows = {new if label == old else label: row for label, row in self._rows.items()}
        self._labels = tuple(self._rows)

    def of(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return torch.tensor([self._rows[label] for label in labels], dtype=torch.int64)

    def entries(self, labels: Sequence[str]) -> Entries:
        """Returns the entries of samples whose labels have rows: classes, sets of them, or scores. Raises KeyError."""
        if labels and is_value(labels[0]):
            values_E = torch.tensor([value_of(label) for label in labels], dtype=torch.float64)
            return Entries(self.of([VALUE_ROW] * len(labels)), values_E=values_E)
        if not any(map(is_set, labels)):
            return Entries(self.of(labels))
        sets = list(map(names_of, labels))
        sizes_B = torch.tensor([len(names) for names in sets])
        places_E = torch.arange(len(sets)).repeat_interleave(sizes_B)
        return Entries(self.of(list(chain.from_iterable(sets))), places_E)

    @property
    def by_label(self) -> Mapping[str, int]:
        """The row of each label."""
        return MappingProxyType(self._rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of their rows: one and the same tuple until a label comes or goes."""
        if len(self._labels) != len(self._rows):
            self._labels = tuple(self._rows)
        return self._labels

    @property
    def num_in_tables(self) -> int:
        """The number of rows that the tables of these classes have."""
        return rows_for(len(self._rows), self._capacity)

    def __len__(self) -> int:
        return len(self._rows)


def grown(table: Tensor, num_rows: int, *, fill: int = 0) -> Tensor:
    """Returns `table` with at least `num_rows` rows; the new ones hold `fill`."""
    if num_rows <= len(table):
        return table
    larger = table.new_full((num_rows, *table.shape[1:]), fill)
    larger[: len(table)] = table
    return larger
