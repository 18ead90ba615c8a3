"""The mean directions of all classes, as a table of which only those rows are computed anew that have changed.

    rows whose samples have changed --touch--> stale --first--> computed anew, the others as they were
    vectors of texts, directions --nearest--> the class of each

Every label is compared with the means of all classes before it is learnt (`learner.fast.fast_head.FastHead.nearest`). A
batch changes a few rows; to compute 10,000 takes as long as to learn the batch.

Shapes: B texts, N rows, C classes, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learner.fast.head import grown


class Directions:
    """Holds unit vectors by row; zero for a row that was never touched. `compute` returns z_ND of the rows it gets."""

    def __init__(self, width: int, compute: Callable[[Tensor], Tensor]) -> None:
        self._compute = compute
        self._table_CD = torch.zeros(0, width)
        self._stale: set[int] = set()

    def touch(self, rows: Iterable[int]) -> None:
        """Takes note that these rows have changed."""
        self._stale.update(rows)

    def first(self, num_rows: int) -> Tensor:
        """Returns the directions of the first rows, z_CD. The caller does not change them, and copies what it keeps."""
        self._table_CD = grown(self._table_CD, num_rows)
        if self._stale:
            rows_N = torch.tensor(sorted(self._stale))
            self._table_CD = grown(self._table_CD, int(rows_N[-1]) + 1)
            self._table_CD[rows_N] = self._compute(rows_N)
            self._stale.clear()
        return self._table_CD[:num_rows]


class Nearest(NamedTuple):
    """The class with the nearest mean for each text: by all labels, and by the newest labels of each class.

    Distances_B, to the nearest mean of all labels, are 1 - cosine: 1 where no class has a sample.
    """

    by_all: list[str]
    by_newest: list[str]
    distances_B: Tensor


def nearest(z_BD: Tensor, classes: Sequence[str], by_all_CD: Tensor, by_newest_CD: Tensor | None) -> Nearest:
    """Names texts by the directions of the classes; without newest labels, by those of all labels alone."""
    cosines_BC = z_BD @ by_all_CD.T
    by_all = [classes[row] for row in cosines_BC.argmax(dim=1).tolist()]
    by_newest = by_all
    if by_newest_CD is not None:
        by_newest = [classes[row] for row in (z_BD @ by_newest_CD.T).argmax(dim=1).tolist()]
    return Nearest(by_all, by_newest, 1 - cosines_BC.amax(dim=1))
