"""The newest labels of each class: the challenger of a class's sums, where what it means may have changed.

    z of a label, time of its event --add--> the last few of each class --means--> class means of late

With many classes each has fewer labels, so that all of them have a bounded number, by default MAX_VECTORS.

A class holds the labels of its newest events, by the time of the event and not of the label's arrival, the newest
first. So what is held depends on which labels were learnt and not on their order, as long as none is taken out.

Rejected: an exponentially weighted mean (a label that is taken out leaves a trace, and another encoder needs the texts
again), and the newest labels of all classes (1,000 labels are 7 of each of 150 classes, and none of most of 10,000).

Shapes: B samples, C classes, K labels of each, D width.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Final

import torch
from torch import Tensor

from learner.fast.directions import Directions
from learner.fast.head import grown

MAX_VECTORS: Final = 16_384
"""The most vectors of all classes: 25 MB at a width of 384. With many classes, each has fewer."""

FADING: Final = 0.75
"""The weight of each label in the mean, relative to the next newer one: three new labels outweigh five old ones."""

EMPTY: Final = -1
"""The time of a place without a label."""


class RecentLabels:
    """Holds the last `num_recent` labels of each of `num_rows` classes, fewer where `max_vectors` bounds them.

    Where these would be fewer than `min_held`, there are none.
    """

    def __init__(
        self, num_rows: int, width: int, num_recent: int, *, max_vectors: int = MAX_VECTORS, min_held: int = 1
    ) -> None:
        self.num_recent = num_recent
        self._max_vectors = max_vectors
        self._min_held = min_held
        num_held = self._num_held_of(num_rows)
        self._z_CKD = torch.zeros(num_rows, num_held, width)
        self._times_CK = torch.full((num_rows, num_held), EMPTY, dtype=torch.int64)
        self._means = Directions(width, self._mean_directions)

    @property
    def num_held(self) -> int:
        """The number of labels that are held of each class."""
        return self._z_CKD.shape[1]

    @property
    def is_any_full(self) -> bool:
        """Whether as many labels of a class are held as can be."""
        return bool((self._times_CK[:, -1:] != EMPTY).any())

    def grow(self, num_rows: int) -> None:
        """Makes room for so many classes; of each, fewer labels may be held from then on."""
        if num_rows <= len(self._z_CKD):
            return
        num_before = self.num_held
        num_held = self._num_held_of(num_rows)
        self._z_CKD = grown(self._z_CKD[:, :num_held], num_rows)
        self._times_CK = grown(self._times_CK[:, :num_held], num_rows, fill=EMPTY)
        if num_held != num_before:
            self._means.touch(range(num_rows))

    def add(self, z_BD: Tensor, rows_B: Tensor, times_ms: Sequence[int]) -> None:
        """Adds labels; the one with the oldest event of its class goes. Of equal times, the vector decides."""
        if not self.num_held:
            return
        for z_D, row, time_ms in zip(z_BD, rows_B.tolist(), times_ms, strict=True):
            z_KD = self._z_CKD[row]
            times_K = self._times_CK[row]
            keys = zip(times_K.tolist(), z_KD[:, 0].tolist(), strict=True)
            place = sum(key > (time_ms, float(z_D[0])) for key in keys)
            self._means.touch([row])
            if place < self.num_held:
                z_KD[place + 1 :] = z_KD[place:-1].clone()
                times_K[place + 1 :] = times_K[place:-1].clone()
                z_KD[place] = z_D
                times_K[place] = time_ms

    def remove(self, z_BD: Tensor, rows_B: Tensor) -> None:
        """Removes labels that are held. A text has the same vector whatever it was encoded with."""
        for z_D, row in zip(z_BD, rows_B.tolist(), strict=True):
            is_it_K = (self._z_CKD[row] == z_D).all(dim=1)
            self._keep(row, ~is_it_K | (is_it_K.cumsum(dim=0) > 1))

    def keep_since(self, row: int, time_ms: int) -> Tensor:
        """Removes the labels of a class from before `time_ms`; returns the vectors of the others, z_ND."""
        self._keep(row, self._times_CK[row] >= time_ms)
        return self._z_CKD[row, self._times_CK[row] != EMPTY].clone()

    def means(self, num_classes: int) -> Tensor:
        """Returns the weighted mean direction of the labels held of each class, z_CD of unit length; zero for none."""
        return self._means.first(num_classes)

    def means_since(self, time_ms: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """Returns the mean direction of those of each class since `time_ms`, z_CD as above, and how many there are."""
        is_since_CK = self._times_CK[:num_classes] >= time_ms
        sums_CD = torch.einsum("ckd,ck->cd", self._z_CKD[:num_classes], is_since_CK.float())
        return torch.nn.functional.normalize(sums_CD, dim=1), is_since_CK.sum(dim=1)

    def held(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """Returns all that are held of the first classes, z_ND, and their rows_N: by class, the newest first."""
        is_held_CK = self._times_CK[:num_classes] != EMPTY
        return self._z_CKD[:num_classes][is_held_CK], is_held_CK.nonzero()[:, 0]

    def copy(self) -> "RecentLabels":
        copied = copy(self)
        copied._z_CKD = self._z_CKD.clone()
        copied._times_CK = self._times_CK.clone()
        copied._means = Directions(self._z_CKD.shape[2], copied._mean_directions)
        copied._means.touch(range(len(self._z_CKD)))
        return copied

    def export(self, num_classes: int) -> dict[str, Tensor]:
        """Returns what is held of the first classes, by name."""
        return {
            "recent_z": self._z_CKD[:num_classes].clone(),
            "recent_times": self._times_CK[:num_classes].clone(),
        }

    def restore(self, held: Mapping[str, Tensor]) -> None:
        """Holds what was exported, the newest of it where more of a class was held then; nothing where it lacks."""
        self._z_CKD.zero_()
        self._times_CK.fill_(EMPTY)
        if "recent_z" in held:  # an older program exported none
            num_classes, num_held = held["recent_times"].shape
            num = min(num_held, self.num_held)
            self._z_CKD[:num_classes, :num] = held["recent_z"][:, :num]
            self._times_CK[:num_classes, :num] = held["recent_times"][:, :num]
        self._means.touch(range(len(self._z_CKD)))

    def _mean_directions(self, rows_N: Tensor) -> Tensor:
        weights_K1 = FADING ** torch.arange(self.num_held)[:, None]
        return torch.nn.functional.normalize((self._z_CKD[rows_N] * weights_K1).sum(dim=1), dim=1)

    def _keep(self, row: int, is_kept_K: Tensor) -> None:
        z_ND = self._z_CKD[row, is_kept_K]
        times_N = self._times_CK[row, is_kept_K]
        self._z_CKD[row] = 0
        self._times_CK[row] = EMPTY
        self._z_CKD[row, : len(z_ND)] = z_ND
        self._times_CK[row, : len(z_ND)] = times_N
        self._means.touch([row])

    def _num_held_of(self, num_rows: int) -> int:
        num = min(self.num_recent, self._max_vectors // max(num_rows, 1))
        return num if num >= self._min_held else 0
