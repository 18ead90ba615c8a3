"""The mean directions of all classes, as a table of which only those rows are computed anew that have changed.

    rows whose samples have changed --touch--> stale --first--> computed anew, the others as they were

Every label is compared with the means of all classes before it is learnt (`learner.fast.fast_head.FastHead.nearest`). A
batch changes a few rows; to compute 10,000 takes as long as to learn the batch.

Shapes: N rows, C classes, D width.
"""

from collections.abc import Callable, Iterable

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
