"""A ridge classifier on random features, in closed form. It learns at once and forgets nothing.

    phi = relu(z P^T)   G += phi^T phi   C[:, y] += phi   W = (G + lambda I)^-1 C, by class times a factor

This is RanPAC (McDonnell et al. 2023, arXiv:2307.02251) with three changes. First, features are rounded to a grid of
2^-10, so that products are multiples of 2^-20 and every sum below 2^33 is exact in float64: the sums, and so the head,
do not depend on the order or the batching of the labels, bit for bit. Second, the row of a class that is hardly known
has a factor (`learner.fast.row_scales`): plain ridge names a class with one label in 1 % of its texts when the others
have a hundred, this one in 70 %, at 0.2 points less on the old ones (CLINC150, ten new classes beside a hundred; equal
counts: no difference). Third, below 30,000 samples the penalty is the one that so many samples would have, and above it
is the given share of the sums (`learner.fast.base_solution`): with few samples, a share alone overfits (chosen on
CLINC150's validation texts; a share of 0.01 loses 0.3 points with 5 texts of each of 150 classes, 1.5 with 10, 0.9 with
20, and up to 1.7 with 20 texts of 15 classes).

The label of a sample may be a set of classes (`wire.targets`): then its features are added to the column of each, and
once to the Gram matrix, which is the least-squares fit of a 0 or 1 for each class. Or it is a score, to which the only
row is fitted: its place in the range is a multiple of 2^-16, so that every sum below 2^26 is exact.

Rejected: gradient steps on a softmax head (depends on the order, forgets), streaming LDA (a point lower at the same
cost), and factors by the whole count in place of its root (old classes fall by 50 points while the new ones have one
label).

Shapes: B samples, R features, C classes.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Final, NamedTuple

import torch
from torch import Tensor

from learner.fast.base_solution import NormalEquations, ridge_penalty
from learner.fast.gram import GramMatrix
from learner.fast.head import ClassRows, Entries, grown
from learner.fast.row_scales import row_scales

GRID: Final = 1024.0
"""Features are multiples of 1 / GRID."""


class RidgeSums(NamedTuple):
    """Sums over samples: of products of features, and of features and samples by class. The first two are float64.

    `num_texts` samples are in the Gram matrix: `num_samples` that are learnt, and those that a class has forgotten.
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor
    num_texts: int
    num_samples: int


class RidgeHead:
    """Holds the sums, and the classes in the order in which they came."""

    def __init__(self, num_features: int, capacity: int, *, penalty: float) -> None:
        self._capacity = capacity
        self._penalty = penalty
        self._rows = ClassRows(capacity)
        self._gram = GramMatrix(num_features)
        self._class_CR = torch.zeros(0, num_features, dtype=torch.float64)
        self._counts_C = torch.zeros(0, dtype=torch.int64)
        self._grow()
        self.num_texts = 0
        """Number of samples in the Gram matrix: all that were learnt, also those that their class has forgotten."""
        self.num_samples = 0
        """Number of samples that are learnt."""
        self._has_sets = False

    def admit(self, label: str) -> bool:
        """Gives `label` a row if it has none. False when all rows are taken."""
        is_admitted = self._rows.admit(label)
        self._grow()
        return is_admitted

    def replace(self, old: str, new: str) -> None:
        """Gives the row of `old`, all of whose samples were removed, to `new`, which has none."""
        assert not self.num_of(old), f"{old!r} still has samples"
        self._rows.replace(old, new)

    def rows_of(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return self._rows.of(labels)

    def entries(self, labels: Sequence[str]) -> Entries:
        """Returns the rows of the classes that labels name, of which each has a row. Raises KeyError."""
        return self._rows.entries(labels)

    def learn_many(self, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Learns samples of admitted labels. The same samples in any order and any batches give the same head."""
        if not labels:
            return
        phi_BR = on_grid(phi_BR)
        entries = self._rows.entries(labels)
        self._has_sets = self._has_sets or entries.places_E is not None
        self._class_CR.index_add_(0, entries.rows_E, entries.sums_of(phi_BR))
        self._counts_C.index_add_(0, entries.rows_E, torch.ones_like(entries.rows_E))
        self.num_texts += len(labels)
        self.num_samples += len(labels)
        self._gram.add(phi_BR)

    def unlearn_many(self, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Removes samples that were learnt. The sums are exact, so they become those of all others, bit for bit."""
        if not labels:
            return
        phi_BR = on_grid(phi_BR)
        entries = self._rows.entries(labels)
        self._class_CR.index_add_(0, entries.rows_E, entries.sums_of(phi_BR), alpha=-1)
        self._counts_C.index_add_(0, entries.rows_E, torch.ones_like(entries.rows_E), alpha=-1)
        self._gram.remove(phi_BR)
        self.num_texts -= len(labels)
        self.num_samples -= len(labels)

    def restart(self, label: str, phi_BR: Tensor) -> None:
        """Goes on with a class as `phi_BR` alone, of what it has learnt. The Gram matrix keeps all of its texts."""
        (row,) = self._rows.of([label]).tolist()
        self.num_samples += len(phi_BR) - int(self._counts_C[row])
        self._class_CR[row] = on_grid(phi_BR).sum(dim=0)
        self._counts_C[row] = len(phi_BR)

    def add_sums(self, sums: RidgeSums) -> None:
        """Adds sums of samples that were not learnt here, rounded to the grid; rows are those of the same classes."""
        num_rows = len(sums.counts_C)  # more classes may have come since
        self._gram.add_matrix(on_grid((sums.gram_RR + sums.gram_RR.T) / 2, GRID**2))
        self._class_CR[:num_rows] += on_grid(sums.class_CR)
        self._counts_C[:num_rows] += sums.counts_C
        self.num_texts += sums.num_texts
        self.num_samples += sums.num_samples

    def equations(self) -> NormalEquations:
        """Returns what the weights follow from, as it is now: a copy, which another thread may solve.

        It has a class for each row of the tables, zero for a class without a sample.
        """
        penalty = ridge_penalty(self.num_texts, ridge=self._penalty)
        return NormalEquations.of(self._gram.lower_RR, self._class_CR, penalty)

    def solve(self) -> Tensor:
        """Returns the weights W_CR, float32, one row per class, solved from all sums."""
        return self.equations().solve().weights_CR[: len(self._rows)] * self.scales_C[:, None]

    def predict_many(self, phi_BR: Tensor) -> Tensor:
        """Returns logits_BC before the temperature: about 0 for no, about 1 for yes. It solves first."""
        return phi_BR @ self.solve().T

    @property
    def counts_C(self) -> Tensor:
        """The number of samples of each class, int64."""
        return self._counts_C[: len(self._rows)]

    @property
    def scales_C(self) -> Tensor:
        """The factors of the rows of a solution."""
        return row_scales(self.counts_C)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of the rows."""
        return self._rows.labels

    @property
    def rows(self) -> ClassRows:
        """The rows of the classes. Only `admit` and `replace` change them."""
        return self._rows

    def num_of(self, label: str) -> int:
        """Returns how many samples a class has; 0 for a label without a row."""
        row = self._rows.by_label.get(label)
        return 0 if row is None else int(self._counts_C[row])

    @property
    def num_by_class(self) -> dict[str, int]:
        """The number of samples of each class."""
        return dict(zip(self.classes, self._counts_C.tolist(), strict=False))

    @property
    def sums(self) -> RidgeSums:
        """The sums, with all rows of the tables: those by class themselves, and a copy of the Gram matrix."""
        return RidgeSums(self._gram.symmetric(), self._class_CR, self._counts_C, self.num_texts, self.num_samples)

    def copy(self) -> "RidgeHead":
        """Returns a head with copies of the sums."""
        copied = copy(self)
        copied._rows = ClassRows(self._capacity, self.classes)
        copied._gram = self._gram.copy()
        copied._class_CR = self._class_CR.clone()
        copied._counts_C = self._counts_C.clone()
        return copied

    def export(self) -> dict[str, Tensor]:
        """Returns copies of the sums by name; the caller stores the classes as well.

        `gram` is the lower triangle, row by row. `class` is float32 where that holds every sum. `samples` is there
        where labels are sets of classes: then the counts of the classes do not add up to it.
        """
        num_classes = len(self._rows)
        samples = {"samples": torch.tensor([self.num_samples])} if self._has_sets else {}
        return samples | {
            "gram": self._gram.export(),
            "class": narrowed(self._class_CR[:num_classes]),
            "counts": self._counts_C[:num_classes].clone(),
            "texts": torch.tensor([self.num_texts]),
        }

    def restore(self, sums: Mapping[str, Tensor], classes: Sequence[str]) -> None:
        """Becomes the head whose sums and classes were exported."""
        self._rows = ClassRows(self._capacity, classes)
        self._gram.restore(sums["gram"])
        self._class_CR = grown(sums["class"].to(torch.float64, copy=True), self._rows.num_in_tables)
        self._counts_C = grown(sums["counts"].clone(), self._rows.num_in_tables)
        self.num_samples = num_samples_in(sums)
        self._has_sets = "samples" in sums
        self.num_texts = int(sums["texts"]) if "texts" in sums else self.num_samples  # older programs forgot nothing

    def _grow(self) -> None:
        self._class_CR = grown(self._class_CR, self._rows.num_in_tables)
        self._counts_C = grown(self._counts_C, self._rows.num_in_tables)


def num_samples_in(sums: Mapping[str, Tensor]) -> int:
    """Returns how many samples exported sums have learnt."""
    return int(sums["samples"]) if "samples" in sums else int(sums["counts"].sum())


def on_grid(x_BR: Tensor, grid: float = GRID) -> Tensor:
    """Rounds values to multiples of 1 / `grid`, float64, as the sums take them."""
    return (x_BR.double() * grid).round_() / grid


def narrowed(sums_CR: Tensor) -> Tensor:
    """Returns a copy of sums on the grid in float32 where that is exact, which halves it; else in float64.

    float32 has 24 bits: it is exact below 2^14, which a class reaches with thousands of labels.
    """
    low, high = torch.aminmax(sums_CR) if sums_CR.numel() else (torch.zeros(()), torch.zeros(()))
    if max(-float(low), float(high)) > 2**24 / GRID:
        return sums_CR.clone()
    narrow_CR = sums_CR.to(torch.float32)
    return narrow_CR if torch.equal(narrow_CR.double(), sums_CR) else sums_CR.clone()  # sums of scores have more bits


def penalize(gram_RR: Tensor, penalty: float) -> Tensor:
    """Adds `penalty` times the mean diagonal to the diagonal of a Gram matrix, in place, and returns it."""
    gram_RR.diagonal().add_(penalty * float(gram_RR.diagonal().mean()) + 1e-6)
    return gram_RR
