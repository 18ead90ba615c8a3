"""A closed-form ridge classifier on random features. It learns each label at once, and forgets nothing.

    phi = relu(z P^T)   G += phi^T phi   C[:, y] += phi   W = (G + lambda I)^-1 C, each class times a scale factor

    texts --GramMatrix--> G      by class --RidgeHead--> C      both --NormalEquations.solve, Cholesky--> BaseSolution
    renamed classes --renamed_sums--> C of a head that had these names from the start, bit for bit

This is RanPAC (McDonnell et al. 2023, arXiv:2307.02251) with three changes:

- **Exact sums.** Features are rounded to a grid of 2^-10, so products are multiples of 2^-20, and each sum below 2^33
  is exact in float64. So the sums, and the head, do not depend on the order or the batching of the labels, bit for bit.
- **Scale factors.** The row of a class with few labels has a factor (`learner.fast.rows.row_scales`). If a class has
  one label and the others have a hundred, plain ridge finds 1 % of its texts, and the scaled head finds 70 %, at 0.2
  points less on the old classes (CLINC150, ten new classes, a hundred old ones; equal counts: no difference).
- **A larger penalty for few samples.** Below FULL_SAMPLES samples, the penalty is the one of FULL_SAMPLES
  (`ridge_penalty`), since a constant share of the sums overfits. Chosen on CLINC150's validation texts: a share of 0.01
  loses 0.3 points with 5 texts of each of 150 classes, 1.5 with 10, 0.9 with 20, and up to 1.7 with 20 texts of 15
  classes.

The label of a sample may be a set of classes (`wire.kinds`). Then its features are added to the column of each class,
and once to the Gram matrix: the least-squares fit of a 0 or 1 for each class. Or the label is a score, to which the
only row is fitted. Its place in the range is a multiple of 2^-16, so each sum below 2^26 is exact.

A solution in float32 is precise enough: for 12,000 texts of CLINC150 (condition number 1.6e4), the weights differ from
the float64 solution by 5e-5 of its norm, a hundredth of an INT8 step.

Rejected: gradient steps on a softmax head (they depend on the order, and forget), streaming LDA (a point lower at the
same cost), scale factors by the count instead of its root (old classes fall by 50 points while the new ones have one
label), and integer products of 8-bit halves of the features (a quarter of the time, but adding the 32-bit sums to the
matrix takes twice the time of the float64 product).

Shapes: B samples, R features, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from learner.fast.rows import ClassRows, grown, row_scales
from model.kinds import Entries

FULL_SAMPLES: Final = 30_000
"""The number of samples above which the penalty is the configured share of the sums. Below, the share is larger."""

MEAN_SQUARE: Final = 0.5
"""The mean square of relu(x) for a standard normal x."""

PENALTY_STEP: Final = 1.05
"""The factor between consecutive penalties."""


@dataclass(frozen=True, slots=True, eq=False)
class BaseSolution:
    """The Cholesky factor L of A0 = L L^T (`factor_RR`, lower triangle) and the solution U0 transposed (`weights_CR`).

    Both are float32 and contiguous.
    """

    penalty: float
    factor_RR: Tensor
    weights_CR: Tensor

    @property
    def num_rows(self) -> int:
        """The number of rows, which may be more than the number of classes."""
        return len(self.weights_CR)

    def inverse_times(self, phi_BR: Tensor) -> Tensor:
        """Returns A0^-1 phi for each row phi: two triangular solves, 2 R^2 operations a row.

        Two triangular solves read the factor in place; `cholesky_solve` copies its 16 MB at each call.
        """
        y_RB: Tensor = torch.linalg.solve_triangular(self.factor_RR, phi_BR.T, upper=False)
        v_RB: Tensor = torch.linalg.solve_triangular(self.factor_RR.T, y_RB, upper=True)
        return v_RB.T.contiguous()


def ridge_penalty(num_samples: int, *, ridge: float) -> float:
    """Returns lambda for a base of `num_samples` samples. `ridge` is the setting of that name, a share.

    lambda must not change with each label, since that would change all of A0 = G + lambda I. The random features have
    the distribution relu(N(0, 1)), so the diagonal of G is about n * MEAN_SQUARE. lambda is the share `ridge` of this
    diagonal for max(n, FULL_SAMPLES) samples: constant up to FULL_SAMPLES, then in steps of 5 %.

    >>> ridge_penalty(100, ridge=0.01) == ridge_penalty(30_000, ridge=0.01)
    True
    >>> round(ridge_penalty(30_000, ridge=0.01), 6), round(ridge_penalty(31_600, ridge=0.01), 6)
    (150.0, 157.5)
    """
    growth = max(num_samples / FULL_SAMPLES, 1.0)
    num_steps = math.floor(math.log(growth) / math.log(PENALTY_STEP))
    return ridge * FULL_SAMPLES * MEAN_SQUARE * PENALTY_STEP**num_steps


class NormalEquations(NamedTuple):
    """The linear equations A0 U0 = S0 in float32: a copy of the sums, with the penalty added to the Gram matrix.

    Only the lower triangle of the Gram matrix is valid.
    """

    gram_RR: Tensor
    sums_CR: Tensor
    penalty: float

    @classmethod
    def of(cls, gram_RR: Tensor, sums_CR: Tensor, penalty: float) -> "NormalEquations":
        """Returns the equations for exact sums in float64."""
        regularised_RR = gram_RR.to(torch.float32, copy=True)
        regularised_RR.diagonal().add_(penalty)
        return cls(regularised_RR, sums_CR.to(torch.float32, copy=True), penalty)

    def solve(self) -> BaseSolution:
        """Solves the equations by Cholesky.

        The factor takes R^3/3 operations (0.1 s at R=2048), and each class that has samples takes 2 R^2.
        """
        factor_RR = torch.linalg.cholesky(self.gram_RR)
        weights_CR = torch.zeros(self.sums_CR.shape)
        # Rows without samples have the solution 0.
        has_samples_C = self.sums_CR.any(dim=1)
        weights_CR[has_samples_C] = torch.cholesky_solve(self.sums_CR[has_samples_C].T, factor_RR).T
        return BaseSolution(self.penalty, factor_RR.contiguous(), weights_CR)


FOLD_ROWS: Final = 64
"""The number of rows that are collected before their products are added to the matrix."""

NUM_STRIPS: Final = 8
"""The number of strips of rows in which the lower triangle is updated. With 8 strips, 56 % of the products of the whole
matrix are computed."""


class GramMatrix:
    """The Gram matrix of rows on the grid (`on_grid`). The last rows are collected before they are added."""

    def __init__(self, num_features: int) -> None:
        self._lower_RR = torch.zeros(num_features, num_features, dtype=torch.float64)
        self._unfolded: list[Tensor] = []

    @property
    def lower_RR(self) -> Tensor:
        """The matrix itself, not a copy. Only its lower triangle is valid."""
        self._fold()
        return self._lower_RR

    def add(self, phi_BR: Tensor) -> None:
        """Adds the products of these rows."""
        self._unfolded.append(phi_BR)
        if sum(len(rows) for rows in self._unfolded) >= FOLD_ROWS:
            self._fold()

    def remove(self, phi_BR: Tensor) -> None:
        """Subtracts the products of rows that were added."""
        # The removed rows may be among the collected ones.
        self._fold()
        self._add_products(phi_BR, -1)

    def add_matrix(self, gram_RR: Tensor) -> None:
        """Adds a symmetric matrix."""
        self._lower_RR += gram_RR

    def symmetric(self) -> Tensor:
        """Returns a copy of the whole matrix."""
        lower_RR = self.lower_RR
        return lower_RR.tril() + lower_RR.tril(-1).T

    def copy(self) -> "GramMatrix":
        """Returns a copy of the matrix."""
        copied = copy(self)
        copied._lower_RR = self.lower_RR.clone()
        copied._unfolded = []
        return copied

    def export(self) -> Tensor:
        """Returns a copy of the lower triangle, row by row."""
        # A boolean mask would take four times as long, while labels wait.
        lower = [row_R[: place + 1] for place, row_R in enumerate(self.lower_RR)]
        return torch.cat(lower)

    def restore(self, triangle: Tensor) -> None:
        """Restores an exported triangle."""
        self._unfolded = []
        self._lower_RR[torch.ones_like(self._lower_RR, dtype=torch.bool).tril_()] = triangle

    def _fold(self) -> None:
        if self._unfolded:
            self._add_products(torch.cat(self._unfolded), 1)
            self._unfolded = []

    def _add_products(self, phi_BR: Tensor, sign: int) -> None:
        """Adds `sign` times the products of these rows to the lower triangle."""
        first = 0
        for strip_SR in self._lower_RR.tensor_split(NUM_STRIPS):
            last = first + len(strip_SR)
            # Columns beyond the strip's last row are in the upper triangle.
            strip_SR[:, :last].addmm_(phi_BR[:, first:last].T, phi_BR[:, :last], alpha=sign)
            first = last


GRID: Final = 1024.0
"""Features are multiples of 1 / GRID."""


class RidgeSums(NamedTuple):
    """The sums over samples: the Gram matrix and the sums of features by class, in float64, and the counts by class.

    `num_texts` samples are in the Gram matrix: the `num_samples` that are learnt, and samples that their class has
    forgotten (`RidgeHead.restart`).
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor
    num_texts: int
    num_samples: int


class RidgeHead:
    """The sums, and the rows of the classes in the order of their first labels."""

    def __init__(self, num_features: int, capacity: int, *, penalty: float) -> None:
        self._capacity = capacity
        self._penalty = penalty
        self._rows = ClassRows(capacity)
        self._gram = GramMatrix(num_features)
        self._class_CR = torch.zeros(0, num_features, dtype=torch.float64)
        self._counts_C = torch.zeros(0, dtype=torch.int64)
        self._grow()
        self.num_texts = 0
        """The number of samples in the Gram matrix, including samples that their class has forgotten."""
        self.num_samples = 0
        """The number of learnt samples."""
        self._has_sets = False

    def admit(self, label: str) -> bool:
        """Gives `label` a row if it has none. False when all rows are taken."""
        is_admitted = self._rows.admit(label)
        self._grow()
        return is_admitted

    def replace(self, old: str, new: str) -> None:
        """Gives the row of `old` to `new`, which has no row. All samples of `old` must have been unlearnt."""
        assert not self.num_of(old), f"{old!r} still has samples"
        self._rows.replace(old, new)

    def rows_of(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return self._rows.of(labels)

    def entries(self, labels: Sequence[str]) -> Entries:
        """Returns the pairs of a sample and a row of its classes. Raises KeyError if a class has no row."""
        return self._rows.entries(labels)

    def learn_many(self, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Learns samples whose classes have rows. The same samples in any order and any batches give the same head."""
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
        """Unlearns samples. The sums are exact, so they equal the sums of all other samples, bit for bit."""
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
        """Replaces the samples of a class by `phi_BR`, a part of them. The Gram matrix keeps all of its texts."""
        (row,) = self._rows.of([label]).tolist()
        self.num_samples += len(phi_BR) - int(self._counts_C[row])
        self._class_CR[row] = on_grid(phi_BR).sum(dim=0)
        self._counts_C[row] = len(phi_BR)

    def add_sums(self, sums: RidgeSums) -> None:
        """Adds sums of samples that were not learnt here, rounded to the grid. Equal rows mean the same classes."""
        # This head may have more classes by now.
        num_rows = len(sums.counts_C)
        self._gram.add_matrix(on_grid((sums.gram_RR + sums.gram_RR.T) / 2, GRID**2))
        self._class_CR[:num_rows] += on_grid(sums.class_CR)
        self._counts_C[:num_rows] += sums.counts_C
        self.num_texts += sums.num_texts
        self.num_samples += sums.num_samples

    def equations(self) -> NormalEquations:
        """Returns a copy of the current equations, which another thread may solve.

        They have a column for each row of the tables; it is zero for a row without samples.
        """
        penalty = ridge_penalty(self.num_texts, ridge=self._penalty)
        return NormalEquations.of(self._gram.lower_RR, self._class_CR, penalty)

    def solve(self) -> Tensor:
        """Solves all sums; returns the weights W_CR, float32, one row per class."""
        return self.equations().solve().weights_CR[: len(self._rows)] * self.scales_C[:, None]

    def predict_many(self, phi_BR: Tensor) -> Tensor:
        """Solves, then returns logits_BC before the temperature: about 1 for the right class, about 0 for others."""
        return phi_BR @ self.solve().T

    @property
    def counts_C(self) -> Tensor:
        """The number of samples of each class, int64."""
        return self._counts_C[: len(self._rows)]

    @property
    def scales_C(self) -> Tensor:
        """The scale factors of the rows of a solution."""
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
        """Returns the number of samples of a class; 0 for a label without a row."""
        row = self._rows.by_label.get(label)
        return 0 if row is None else int(self._counts_C[row])

    @property
    def num_by_class(self) -> dict[str, int]:
        """The number of samples of each class."""
        return dict(zip(self.classes, self._counts_C.tolist(), strict=False))

    @property
    def sums(self) -> RidgeSums:
        """The sums with all rows of the tables: the sums by class themselves, and a copy of the Gram matrix."""
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

        `gram` is the lower triangle, row by row. `class` is float32 if that is exact. `samples` exists only if labels
        are sets of classes, since the counts of the classes then do not add up to it.
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
        """Restores exported sums and classes."""
        self._rows = ClassRows(self._capacity, classes)
        self._gram.restore(sums["gram"])
        self._class_CR = grown(sums["class"].to(torch.float64, copy=True), self._rows.num_in_tables)
        self._counts_C = grown(sums["counts"].clone(), self._rows.num_in_tables)
        self.num_samples = num_samples_in(sums)
        self._has_sets = "samples" in sums
        # Older releases did not export it; their classes forgot no samples.
        self.num_texts = int(sums["texts"]) if "texts" in sums else self.num_samples

    def _grow(self) -> None:
        self._class_CR = grown(self._class_CR, self._rows.num_in_tables)
        self._counts_C = grown(self._counts_C, self._rows.num_in_tables)


def num_samples_in(sums: Mapping[str, Tensor]) -> int:
    """Returns the number of learnt samples in exported sums."""
    return int(sums["samples"]) if "samples" in sums else int(sums["counts"].sum())


def on_grid(x_BR: Tensor, grid: float = GRID) -> Tensor:
    """Rounds values to multiples of 1 / `grid`; returns float64, the type of the sums."""
    return (x_BR.double() * grid).round_() / grid


def narrowed(sums_CR: Tensor) -> Tensor:
    """Returns a copy of sums on the grid: in float32 if that is exact, which halves the size, otherwise in float64.

    float32 has 24 bits, so it is exact below 2^14, which a class reaches with thousands of labels.
    """
    low, high = torch.aminmax(sums_CR) if sums_CR.numel() else (torch.zeros(()), torch.zeros(()))
    if max(-float(low), float(high)) > 2**24 / GRID:
        return sums_CR.clone()
    narrow_CR = sums_CR.to(torch.float32)
    # Sums of scores have more bits.
    return narrow_CR if torch.equal(narrow_CR.double(), sums_CR) else sums_CR.clone()


def penalize(gram_RR: Tensor, penalty: float) -> Tensor:
    """Adds `penalty` times the mean diagonal to the diagonal of a Gram matrix, in place, and returns it."""
    gram_RR.diagonal().add_(penalty * float(gram_RR.diagonal().mean()) + 1e-6)
    return gram_RR


SUMMED: Final = ("class", "counts", "z")
"""The names of the exported sums that are added if classes are merged."""

NEWEST: Final = ("recent", "newest")
"""The prefixes of the names of exported newest labels (`learner.fast.recency`). If classes are merged, the newest
labels of all of them are kept."""

PER_CLASS: Final = (*SUMMED, "recent_z", "recent_times", "newest_z", "newest_times")
"""The names of the exported tensors that have a row for each class."""


def in_order(sums: Mapping[str, Tensor], rows_C: Tensor) -> dict[str, Tensor]:
    """Returns exported sums with their rows in the order `rows_C`."""
    return {name: values[rows_C] if name in PER_CLASS else values for name, values in sums.items()}


def renamed_sums(
    sums: Mapping[str, Tensor], classes: Sequence[str], name_of: Callable[[str], str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns exported sums and classes with the classes renamed by `name_of`.

    Classes that get the same name are merged into the first of their rows. A class that is renamed to "" is dropped.
    """
    rows_by_name: dict[str, list[int]] = {}
    for row, name in enumerate(map(name_of, classes)):
        if name:
            rows_by_name.setdefault(name, []).append(row)
    by_class = {name: sums[name] for name in SUMMED}
    # The sum of merged classes may exceed the exact range of float32.
    by_class["class"] = by_class["class"].double()
    joined = dict[str, Tensor]()
    for name, values in by_class.items():
        joined[name] = _stacked([values[rows].sum(dim=0) for rows in rows_by_name.values()], values)
    for name in NEWEST:
        z_CKD = sums[f"{name}_z"]
        times_CK = sums[f"{name}_times"]
        newest = [_newest(z_CKD[rows], times_CK[rows]) for rows in rows_by_name.values()]
        joined[f"{name}_z"] = _stacked([z_KD for z_KD, _ in newest], z_CKD)
        joined[f"{name}_times"] = _stacked([times_K for _, times_K in newest], times_CK)
    return dict(sums) | joined, tuple(rows_by_name)


def _newest(z_RKD: Tensor, times_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the K newest labels of R rows, in the order of `RecentLabels`: by time, then by vector, descending."""
    z_ND = z_RKD.flatten(0, 1)
    times_N = times_RK.flatten()
    keys = list(zip(times_N.tolist(), z_ND[:, 0].tolist(), strict=True))
    newest = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)[: times_RK.shape[1]]
    return z_ND[newest], times_N[newest]


def _stacked(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(rows)) if rows else like[:0]
