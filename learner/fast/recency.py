"""Keeps the newest labels of each class, and blends a second ridge head, which only knows these, into the weights.

    z of a label, time of its event --RecentLabels--> the last few labels of each class --> recent class means
    newest labels of each class --kernel ridge regression--> U        all labels --> W        (1 - s) W + s U
    a label, before it is learnt --last solved W and U--> discounted squared losses --Hedge--> the share s

**The newest labels.** Each class keeps the labels of its newest events, newest first. They are ordered by the time of
the event, not by the arrival of the label. So the kept labels depend on which labels were learnt and not on their
order, as long as none is unlearnt. And a class does not lose its labels while only other classes are labelled. All
classes together keep MAX_VECTORS labels. If there are many classes, each class keeps fewer.

**The blend.** The sums never forget. If the stream drifts slowly, no class changes clearly enough for a restart
(`learner.drift.ConceptChanges`), and the sums describe the past. A head that only knows the newest labels knows less,
but is up to date. The Hedge algorithm (Freund and Schapire 1997) with discounted losses weights the two heads by their
losses on about the last five hundred labels. Without drift, the head of all labels gets nearly the whole weight.

The second head exists only if each class has MIN_HELD labels. So there is none with more than MAX_NEWEST / MIN_HELD
classes: with a few labels of each of many classes it would predict worse than the head of all labels. Nor is there one
if labels are sets or scores. The manifest contains the share of the second head (`HeadSolution`), so the weights can be
rebuilt bit for bit.

ETA and DISCOUNT were chosen on Elec2 and on simulated streams without drift. On these streams the blend lost at most
0.07 points. With ETA = 1.0 and DISCOUNT = 0.99 it lost up to 0.2 points, and its accuracy on Elec2 was the same.

Shapes: B labels, E entries (a label of one sample and one class), N newest labels, K labels of each class, R features,
C classes, D width; 2: the head of all labels, the head of the newest labels.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Final

import torch
from torch import Tensor

from learner.fast.ridge import on_grid
from learner.fast.rows import ClassMeans, grown, row_scales
from model.kinds import Entries

MAX_VECTORS: Final = 16_384
"""The most vectors that all classes together keep: 25 MB at a width of 384."""

DECAY: Final = 0.75
"""The weight of a label in the mean, relative to the next newer label. Three new labels outweigh five old ones."""

EMPTY: Final = -1
"""Marks an unused slot of a class: it replaces the time of a label."""


class RecentLabels:
    """The newest labels of each class, as the vectors of their texts: `num_recent` for each of `num_rows` classes.

    A class keeps fewer if all classes together would keep more than `max_vectors`. If it would then keep fewer than
    `min_held`, no labels are kept at all.
    """

    def __init__(
        self, num_rows: int, width: int, num_recent: int, *, max_vectors: int = MAX_VECTORS, min_held: int = 1
    ) -> None:
        self.num_recent = num_recent
        self._max_vectors = max_vectors
        self._min_held = min_held
        num_held = self._places_per_class(num_rows)
        self._z_CKD = torch.zeros(num_rows, num_held, width)
        self._times_CK = torch.full((num_rows, num_held), EMPTY, dtype=torch.int64)
        self._means = ClassMeans(width, self._weighted_means)

    @property
    def num_held(self) -> int:
        """The number of slots of each class: how many labels it can keep."""
        return self._z_CKD.shape[1]

    @property
    def is_any_full(self) -> bool:
        """Whether there is a class whose slots are all used."""
        return bool((self._times_CK[:, -1:] != EMPTY).any())

    def grow(self, num_rows: int) -> None:
        """Adds rows for new classes. From then on each class may have fewer slots."""
        if num_rows <= len(self._z_CKD):
            return
        num_before = self.num_held
        num_held = self._places_per_class(num_rows)
        self._z_CKD = grown(self._z_CKD[:, :num_held], num_rows)
        self._times_CK = grown(self._times_CK[:, :num_held], num_rows, fill=EMPTY)
        if num_held != num_before:
            self._means.touch(range(num_rows))

    def add(self, z_BD: Tensor, rows_B: Tensor, times_ms: Sequence[int]) -> None:
        """Adds labels. A full class drops the label of its oldest event. Labels of equal time are ordered by vector."""
        if not self.num_held:
            return
        for z_D, row, time_ms in zip(z_BD, rows_B.tolist(), times_ms, strict=True):
            z_KD = self._z_CKD[row]
            times_K = self._times_CK[row]
            keys = zip(times_K.tolist(), z_KD[:, 0].tolist(), strict=True)
            # The labels of a class are in descending order of time, then of vector.
            slot = sum(key > (time_ms, float(z_D[0])) for key in keys)
            self._means.touch([row])
            if slot < self.num_held:
                z_KD[slot + 1 :] = z_KD[slot:-1].clone()
                times_K[slot + 1 :] = times_K[slot:-1].clone()
                z_KD[slot] = z_D
                times_K[slot] = time_ms

    def remove(self, z_BD: Tensor, rows_B: Tensor) -> None:
        """Removes labels, which are recognized by their vectors: a text has the same vector in every batch."""
        for z_D, row in zip(z_BD, rows_B.tolist(), strict=True):
            is_equal_K = (self._z_CKD[row] == z_D).all(dim=1)
            # Keeps all labels except the first with this vector.
            self._keep(row, ~is_equal_K | (is_equal_K.cumsum(dim=0) > 1))

    def keep_since(self, row: int, time_ms: int) -> Tensor:
        """Removes the labels of a class that are older than `time_ms`; returns the remaining vectors z_ND."""
        self._keep(row, self._times_CK[row] >= time_ms)
        return self._z_CKD[row, self._times_CK[row] != EMPTY].clone()

    def means(self, num_classes: int) -> Tensor:
        """Returns the weighted mean of the recent labels of each class, z_CD of unit length; zero without labels."""
        return self._means.first(num_classes)

    def means_since(self, time_ms: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """Returns the mean of each class's labels since `time_ms` (z_CD of unit length), and their number [C]."""
        is_since_CK = self._times_CK[:num_classes] >= time_ms
        sums_CD = torch.einsum("ckd,ck->cd", self._z_CKD[:num_classes], is_since_CK.float())
        return torch.nn.functional.normalize(sums_CD, dim=1), is_since_CK.sum(dim=1)

    def held(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Returns all labels of the first `num_classes` classes: their vectors z_ND and rows_N.

        They are ordered by class, and the newest label of a class is first.
        """
        is_held_CK = self._times_CK[:num_classes] != EMPTY
        return self._z_CKD[:num_classes][is_held_CK], is_held_CK.nonzero()[:, 0]

    def copy(self) -> "RecentLabels":
        copied = copy(self)
        copied._z_CKD = self._z_CKD.clone()
        copied._times_CK = self._times_CK.clone()
        copied._means = ClassMeans(self._z_CKD.shape[2], copied._weighted_means)
        copied._means.touch(range(len(self._z_CKD)))
        return copied

    def export(self, num_classes: int) -> dict[str, Tensor]:
        """Returns the labels of the first classes, as tensors by name."""
        return {
            "recent_z": self._z_CKD[:num_classes].clone(),
            "recent_times": self._times_CK[:num_classes].clone(),
        }

    def restore(self, exported: Mapping[str, Tensor]) -> None:
        """Replaces the labels by exported ones. If there are fewer slots now, only the newest labels are restored."""
        self._z_CKD.zero_()
        self._times_CK.fill_(EMPTY)
        # Older releases did not export these labels.
        if "recent_z" in exported:
            num_classes, num_exported = exported["recent_times"].shape
            num = min(num_exported, self.num_held)
            self._z_CKD[:num_classes, :num] = exported["recent_z"][:, :num]
            self._times_CK[:num_classes, :num] = exported["recent_times"][:, :num]
        self._means.touch(range(len(self._z_CKD)))

    def _weighted_means(self, rows_N: Tensor) -> Tensor:
        weights_K1 = DECAY ** torch.arange(self.num_held)[:, None]
        return torch.nn.functional.normalize((self._z_CKD[rows_N] * weights_K1).sum(dim=1), dim=1)

    def _keep(self, row: int, is_kept_K: Tensor) -> None:
        z_ND = self._z_CKD[row, is_kept_K]
        times_N = self._times_CK[row, is_kept_K]
        self._z_CKD[row] = 0
        self._times_CK[row] = EMPTY
        self._z_CKD[row, : len(z_ND)] = z_ND
        self._times_CK[row, : len(z_ND)] = times_N
        self._means.touch([row])

    def _places_per_class(self, num_rows: int) -> int:
        num = min(self.num_recent, self._max_vectors // max(num_rows, 1))
        return num if num >= self._min_held else 0


MAX_NEWEST: Final = 512
"""The most labels of all classes together from which the second head is made."""

MIN_HELD: Final = 64
"""The fewest labels that each class must have, or there is no second head."""

DISCOUNT: Final = 0.998
"""The factor by which each label discounts past losses."""

ETA: Final = 0.7
"""The learning rate of the Hedge algorithm."""

PENALTY: Final = 0.1
"""The ridge penalty of the second head, relative to the penalty of the head of all labels."""

MIN_SHARE: Final = 1e-3
"""A smaller share of the second head counts as 0."""


class RecencyBlend:
    """Blends the head of all labels with a second head of the newest labels, by their losses on recent labels.

    - `recent`: the last `num_recent` labels of each class, for the detection of concept changes (`learner.drift`).
    - `newest`: the labels of the second head; none if `num_recent` is 0, or without `is_blended`.
    """

    def __init__(self, width: int, num_recent: int, *, is_blended: bool = True) -> None:
        num_newest = MAX_NEWEST if num_recent and is_blended else 0
        self.recent = RecentLabels(0, width, num_recent)
        self.newest = RecentLabels(0, width, num_newest, max_vectors=MAX_NEWEST, min_held=MIN_HELD)
        self._losses_2 = torch.zeros(2, dtype=torch.float64)
        self._solved: tuple[Tensor, Tensor] | None = None
        self._kernel = _Kernel()

    def add(self, z_ED: Tensor, entries: Entries, times_ms: Sequence[int]) -> None:
        """Adds labels that were learnt."""
        self.recent.add(z_ED, entries.rows_E, times_ms)
        if entries.are_classes:
            self.newest.add(z_ED, entries.rows_E, times_ms)

    def remove(self, z_ED: Tensor, rows_E: Tensor) -> None:
        """Removes labels that were unlearnt."""
        self.recent.remove(z_ED, rows_E)
        self.newest.remove(z_ED, rows_E)

    def keep_since(self, row: int, time_ms: int) -> Tensor:
        """Removes the labels of a class from before `time_ms`; returns the remaining vectors of `recent`, z_ND."""
        self.newest.keep_since(row, time_ms)
        return self.recent.keep_since(row, time_ms)

    def grow(self, num_rows: int, num_classes: int) -> None:
        """Adds rows for `num_classes` classes, whose tables have `num_rows` rows."""
        self.recent.grow(num_rows)
        self.newest.grow(num_classes)

    @property
    def share(self) -> float:
        """The share of the second head by the losses, in [0, 1]."""
        return float(torch.softmax(-ETA * self._losses_2, dim=0)[1])

    def update_losses(self, phi_BR: Tensor, entries: Entries) -> list[bool]:
        """Adds the losses of both heads on labels that are about to be learnt, in their order. Skips new classes.

        Returns for each label whether the blended head predicted it. All are False if there is no second head, or if
        labels are not single classes.
        """
        if self._solved is None or not entries.are_classes:
            return [False] * len(phi_BR)
        rows_B = entries.rows_E
        weights_CR, newest_CR = self._solved
        num_classes = len(weights_CR)
        scores_2BC = torch.stack([phi_BR @ weights_CR.T, phi_BR @ newest_CR.T])
        predicted_B = torch.lerp(scores_2BC[0], scores_2BC[1], self.share).argmax(dim=1)
        # The last solved weights have no rows for newer classes.
        is_known_B = rows_B < num_classes
        targets_BC = torch.nn.functional.one_hot(rows_B[is_known_B], num_classes)
        losses_2B = (scores_2BC[:, is_known_B].clamp(0, 1) - targets_BC).square().sum(dim=2) / 2
        for loss_2 in losses_2B.T.double():
            self._losses_2 = DISCOUNT * self._losses_2 + loss_2
        is_right_B: list[bool] = (predicted_B == rows_B).tolist()
        return is_right_B

    def blended(
        self, weights_CR: Tensor, features: Callable[[Tensor], Tensor], penalty: float, *, share: float | None = None
    ) -> tuple[Tensor, float]:
        """Solves the second head, and blends it with `weights_CR`, the head of all labels.

        Returns the blended weights and the share of the second head. `features` computes random features of vectors.
        `share` is used instead of the share that follows from the losses.
        """
        z_ND, rows_N = self.newest.held(len(weights_CR))
        counts_C = torch.bincount(rows_N, minlength=len(weights_CR))
        if not len(rows_N) or int(counts_C.min()) < MIN_HELD:
            self._solved = None
            self._kernel = _Kernel()
            return weights_CR, 0.0
        self._kernel.follow(z_ND, features)
        newest_CR = self._kernel.ridge(rows_N, counts_C, penalty=PENALTY * penalty)
        self._solved = (weights_CR, newest_CR)
        share = self.share if share is None else share
        if share < MIN_SHARE:
            return weights_CR, 0.0
        return torch.lerp(weights_CR, newest_CR, share), share

    def adopt_losses(self, other: "RecencyBlend") -> None:
        """Copies the losses of `other`, the blend under the previous encoder."""
        self._losses_2 = other._losses_2.clone()

    def copy(self) -> "RecencyBlend":
        copied = copy(self)
        copied.recent = self.recent.copy()
        copied.newest = self.newest.copy()
        copied._losses_2 = self._losses_2.clone()
        copied._kernel = _Kernel()
        return copied

    def export(self, num_classes: int) -> dict[str, Tensor]:
        """Returns the labels of the first classes, and the losses, as tensors by name."""
        newest = self.newest.export(num_classes)
        return self.recent.export(num_classes) | {
            "newest_z": newest["recent_z"],
            "newest_times": newest["recent_times"],
            "newest_losses": self._losses_2.clone(),
        }

    def restore(self, sums: Mapping[str, Tensor]) -> None:
        """Replaces the labels and losses by exported ones."""
        self.recent.restore(sums)
        # Older releases did not export the second head's labels.
        has_newest = "newest_z" in sums
        self.newest.restore({"recent_z": sums["newest_z"], "recent_times": sums["newest_times"]} if has_newest else {})
        self._losses_2 = sums["newest_losses"].clone() if has_newest else torch.zeros(2, dtype=torch.float64)
        self._solved = None


class _Kernel:
    """The kernel matrix of the newest labels: the inner products of their features.

    Features and products are cached, since few labels change between two versions. Features are on the grid of
    `learner.fast.ridge`, so the products are exact and do not depend on the batching.
    """

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._phi_NR = torch.zeros(0, 1, dtype=torch.float64)
        self._products_NN = torch.zeros(0, 0, dtype=torch.float64)

    def follow(self, z_ND: Tensor, features: Callable[[Tensor], Tensor]) -> None:
        """Makes this the kernel of the vectors z_ND, in their order. Computes only the products of new vectors."""
        keys = [z_D.tobytes() for z_D in z_ND.numpy()]
        old_index = {key: index for index, key in enumerate(self._keys)}
        is_known = [key in old_index for key in keys]
        kept = torch.tensor([old_index[key] for key in keys if key in old_index], dtype=torch.int64)
        known = torch.tensor(is_known).nonzero().flatten()
        new = (~torch.tensor(is_known)).nonzero().flatten()
        new_phi_MR = on_grid(features(z_ND[new]))
        phi_NR = torch.empty(len(keys), new_phi_MR.shape[1], dtype=torch.float64)
        # The features and products of known vectors are copied.
        phi_NR[known] = self._phi_NR[kept]
        phi_NR[new] = new_phi_MR
        products_NN = torch.empty(len(keys), len(keys), dtype=torch.float64)
        products_NN[known[:, None], known] = self._products_NN[kept[:, None], kept]
        products_MN = new_phi_MR @ phi_NR.T
        products_NN[new] = products_MN
        products_NN[:, new] = products_MN.T
        self._keys = keys
        self._phi_NR = phi_NR
        self._products_NN = products_NN

    def ridge(self, rows_N: Tensor, counts_C: Tensor, *, penalty: float) -> Tensor:
        """Solves the dual of the ridge problem for labels with these rows; returns weights_CR.

        The dual takes N^3/3 operations, the primal R^3/3.
        """
        products_NN = self._products_NN.clone()
        products_NN.diagonal().add_(penalty)
        targets_NC = torch.nn.functional.one_hot(rows_N, len(counts_C)).double()
        dual_NC = torch.cholesky_solve(targets_NC, torch.linalg.cholesky(products_NN))
        scales_C = row_scales(counts_C)
        weights_CR: Tensor = (dual_NC.T @ self._phi_NR).float() * scales_C[:, None]
        return weights_CR
