"""A closed-form ridge classifier on random features. It learns each label at once, and forgets nothing.

    phi = relu(z P^T)   G += phi^T phi   C[:, y] += phi   W = (G + lambda I)^-1 C, each class times a scale factor

    features of all texts --GramMatrix--> G      features of each class --RidgeHead--> C
    G, C --NormalEquations.solve: Cholesky--> BaseSolution
    exported sums, new class names --renamed_sums--> the sums as if the classes had these names from the start

This is RanPAC (McDonnell et al. 2023, arXiv:2307.02251) with three changes:

- **Exact sums.** Features are rounded to multiples of 2^-10, so their products are multiples of 2^-20, and each sum
  below 2^33 is exact in float64. So the sums and the head are the same bits for every order and batching of the labels.
- **Scale factors.** The weights of a class with few labels are multiplied by a factor
  (`learner.fast.rows.row_scales`). Measured on CLINC150 with ten new classes of one label each, and a hundred old
  classes of a hundred labels each: plain ridge recognizes 1 % of the new classes' texts, and the scaled head 70 %. The
  old classes lose 0.2 points. If all classes have equally many labels, the factors change nothing.
- **A larger penalty for few samples.** With fewer than FULL_SAMPLES samples, the penalty is as large as with
  FULL_SAMPLES (`ridge_penalty`). If the penalty were always the same share of the sums, the head would overfit. On
  CLINC150's validation texts, a share of 0.01 loses 0.3 points with 5 texts of each of 150 classes, 1.5 points with 10
  texts, 0.9 points with 20 texts, and up to 1.7 points with 20 texts of each of 15 classes.

The label of a sample may be a set of classes (`wire.kinds`). Then its features are added to the column of each of
these classes, and once to the Gram matrix: a least-squares fit of 0 or 1 for each class. If the label is a score, the
head has a single row, which is fitted to the score. The score is scaled to its range and rounded to a multiple of
2^-16, so each sum below 2^26 is exact.

A solution in float32 is precise enough: for 12,000 texts of CLINC150 (condition number 1.6e4), the weights differ from
the float64 solution by 5e-5 of its norm, a hundredth of an INT8 step.

Rejected:

- Gradient steps on a softmax head: the result depends on the order, and the head forgets.
- Streaming LDA: one point less accurate at the same cost.
- Scale factors by the count instead of its square root: old classes lose 50 points while the new ones have one label.
- Integer products of 8-bit halves of the features: the product takes a quarter of the time, but adding the 32-bit sums
  to the matrix takes twice as long as the float64 product.

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
    """The solution of the normal equations A0 U0 = S0, from which the head is updated until the next solution.

    `factor_RR` is the Cholesky factor L of A0 = L L^T (lower triangle), and `weights_CR` is U0 transposed. Both are
    float32 and contiguous.
    """

    penalty: float
    factor_RR: Tensor
    weights_CR: Tensor

    @property
    def num_rows(self) -> int:
        """The number of rows, which may be more than the number of classes."""
        return len(self.weights_CR)

    def inverse_times(self, phi_BR: Tensor) -> Tensor:
        """Returns A0^-1 phi for each row phi of phi_BR, at 2 R^2 operations a row.

        It makes two triangular solves, which read the factor in place. `cholesky_solve` would copy its 16 MB.
        """
        y_RB: Tensor = torch.linalg.solve_triangular(self.factor_RR, phi_BR.T, upper=False)
        v_RB: Tensor = torch.linalg.solve_triangular(self.factor_RR.T, y_RB, upper=True)
        return v_RB.T.contiguous()


def ridge_penalty(num_samples: int, *, ridge: float) -> float:
    """Returns the ridge penalty lambda for `num_samples` samples. `ridge` is the setting `learner.ridge`, a share.

    The random features have the distribution relu(N(0, 1)), so the diagonal of the Gram matrix G of n samples is about
    n * MEAN_SQUARE. lambda is the share `ridge` of this diagonal for max(n, FULL_SAMPLES) samples. So it is constant up
    to FULL_SAMPLES. Above, it grows in steps of 5 %: if it changed with each label, so would all of A0 = G + lambda I.

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
        """Makes the equations from the exact sums, which are float64."""
        regularised_RR = gram_RR.to(torch.float32, copy=True)
        regularised_RR.diagonal().add_(penalty)
        return cls(regularised_RR, sums_CR.to(torch.float32, copy=True), penalty)

    def solve(self) -> BaseSolution:
        """Solves the equations by Cholesky.

        The Cholesky factor takes R^3/3 operations (0.1 s at R=2048). Each class with samples takes 2 R^2 more.
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
    """The Gram matrix of feature rows that are rounded to the grid (`on_grid`). Rows are added FOLD_ROWS at a time."""

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
        """Subtracts the products of rows that were added before."""
        # These rows may be among those that are not yet in the matrix.
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
    """The sums over samples from which the head is solved, in float64.

    - `gram_RR`: the Gram matrix of the features.
    - `class_CR`, `counts_C`: the sum of the features of each class, and its number of samples.
    - `num_texts`: the number of samples in the Gram matrix.
    - `num_samples`: the number of samples in the sums of the classes. It is smaller than `num_texts` if a class has
      forgotten samples (`RidgeHead.restart`).
    """

    gram_RR: Tensor
    class_CR: Tensor
    counts_C: Tensor
    num_texts: int
    num_samples: int


class RidgeHead:
    """A ridge classifier: the exact sums, and the classes' rows, in the order of the classes' first labels."""

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
        """Gives `label` a row if it has none. Returns False if all rows are taken."""
        is_admitted = self._rows.admit(label)
        self._grow()
        return is_admitted

    def replace(self, old: str, new: str) -> None:
        """Gives the row of `old` to `new`, which has no row. All samples of `old` must have been unlearnt."""
        assert not self.count_samples(old), f"{old!r} still has samples"
        self._rows.replace(old, new)

    def find_rows(self, labels: Sequence[str]) -> Tensor:
        """Returns the rows of admitted labels, int64 [B]. Raises KeyError for another label."""
        return self._rows.of(labels)

    def entries(self, labels: Sequence[str]) -> Entries:
        """Returns all pairs of a sample and the row of one of its classes. Raises KeyError if a class has no row."""
        return self._rows.entries(labels)

    def learn_many(self, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Learns samples whose classes have rows. Neither their order nor their batches change the head."""
        if not labels:
            return
        phi_BR = on_grid(phi_BR)
        entries = self._rows.entries(labels)
        self._has_sets = self._has_sets or entries.places_E is not None
        self._class_CR.index_add_(0, entries.rows_E, entries.head_sums(phi_BR))
        self._counts_C.index_add_(0, entries.rows_E, torch.ones_like(entries.rows_E))
        self.num_texts += len(labels)
        self.num_samples += len(labels)
        self._gram.add(phi_BR)

    def unlearn_many(self, phi_BR: Tensor, labels: Sequence[str]) -> None:
        """Unlearns samples. Since sums are exact, the head is then the same bits as if it had never learnt them."""
        if not labels:
            return
        phi_BR = on_grid(phi_BR)
        entries = self._rows.entries(labels)
        self._class_CR.index_add_(0, entries.rows_E, entries.head_sums(phi_BR), alpha=-1)
        self._counts_C.index_add_(0, entries.rows_E, torch.ones_like(entries.rows_E), alpha=-1)
        self._gram.remove(phi_BR)
        self.num_texts -= len(labels)
        self.num_samples -= len(labels)

    def restart(self, label: str, phi_BR: Tensor) -> None:
        """Forgets all samples of a class except those with the features `phi_BR`. The Gram matrix keeps all texts."""
        (row,) = self._rows.of([label]).tolist()
        self.num_samples += len(phi_BR) - int(self._counts_C[row])
        self._class_CR[row] = on_grid(phi_BR).sum(dim=0)
        self._counts_C[row] = len(phi_BR)

    def add_sums(self, sums: RidgeSums) -> None:
        """Adds sums that were computed elsewhere, after rounding them to the grid.

        Their rows must belong to the same classes as the first rows of this head.
        """
        # This head may have more classes than the sums.
        num_rows = len(sums.counts_C)
        self._gram.add_matrix(on_grid((sums.gram_RR + sums.gram_RR.T) / 2, GRID**2))
        self._class_CR[:num_rows] += on_grid(sums.class_CR)
        self._counts_C[:num_rows] += sums.counts_C
        self.num_texts += sums.num_texts
        self.num_samples += sums.num_samples

    def equations(self) -> NormalEquations:
        """Returns the equations for the current sums, as a copy, which another thread may solve.

        They have a right-hand side for each row of the tables; it is zero for a row without samples.
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

    def count_samples(self, label: str) -> int:
        """Returns the number of samples of a class; 0 for a label without a row."""
        row = self._rows.by_label.get(label)
        return 0 if row is None else int(self._counts_C[row])

    @property
    def num_by_class(self) -> dict[str, int]:
        """The number of samples of each class."""
        return dict(zip(self.classes, self._counts_C.tolist(), strict=False))

    @property
    def sums(self) -> RidgeSums:
        """The sums with all rows of the tables. The Gram matrix is a copy; the sums of the classes are not."""
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
        """Returns copies of the sums as tensors by name. The caller has to store the classes with them.

        `gram` is the lower triangle, row by row. `class` is float32 if float32 is exact. `samples`, the number of
        samples, exists only if labels are sets of classes, since it then differs from the sum of the classes' counts.
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
        """Replaces the sums and classes by exported ones."""
        self._rows = ClassRows(self._capacity, classes)
        self._gram.restore(sums["gram"])
        self._class_CR = grown(sums["class"].to(torch.float64, copy=True), self._rows.num_in_tables)
        self._counts_C = grown(sums["counts"].clone(), self._rows.num_in_tables)
        self.num_samples = num_samples_in(sums)
        self._has_sets = "samples" in sums
        # Older releases did not export the number of texts; their classes forgot no samples.
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
    """Returns a copy of exact sums: in float32 if no bit is lost, since that halves the size, otherwise in float64.

    float32 has 24 bits, so the sums are exact below 2^14. A class exceeds this only with thousands of labels.
    """
    low, high = torch.aminmax(sums_CR) if sums_CR.numel() else (torch.zeros(()), torch.zeros(()))
    if max(-float(low), float(high)) > 2**24 / GRID:
        return sums_CR.clone()
    narrow_CR = sums_CR.to(torch.float32)
    # Sums of scores have more bits, so they may need float64 even if they are small.
    return narrow_CR if torch.equal(narrow_CR.double(), sums_CR) else sums_CR.clone()


def penalize(gram_RR: Tensor, penalty: float) -> Tensor:
    """Adds `penalty` times the mean diagonal to the diagonal of a Gram matrix, in place, and returns it."""
    gram_RR.diagonal().add_(penalty * float(gram_RR.diagonal().mean()) + 1e-6)
    return gram_RR


SUMMED: Final = ("class", "counts", "z")
"""The names of the exported tensors whose rows are added if classes are merged."""

NEWEST: Final = ("recent", "newest")
"""The prefixes of the names of exported newest labels (`learner.fast.recency`). If classes are merged, the newest
labels of all of them are kept."""

PER_CLASS: Final = (*SUMMED, "recent_z", "recent_times", "newest_z", "newest_times")
"""The names of the exported tensors that have a row for each class."""


def in_order(sums: Mapping[str, Tensor], rows_C: Tensor) -> dict[str, Tensor]:
    """Returns exported sums with the rows of the classes in the order `rows_C`."""
    return {name: values[rows_C] if name in PER_CLASS else values for name, values in sums.items()}


def renamed_sums(
    sums: Mapping[str, Tensor], classes: Sequence[str], name_of: Callable[[str], str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Renames the classes of exported sums: `name_of` maps an old name to the new one. Returns new sums and classes.

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
