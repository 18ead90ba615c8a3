"""Which rows of the head the labels since the last version have changed, rounded as a release rounds them.

    labels, moved --SentRows--> rows --weights, blend (`learner.fast.prototype`)--> quantize_w8c --> RowDelta

At 10,000 classes a head has 20 MB, so that it cannot be sent several times a second. A row is sent when its class has a
new label, or when it has moved by more than a bound since it was sent last; all rows are sent with the next base. How
far a row has moved is known without making it: its weights are U0 + V x, so it is the norm of V times the change of x.

What changes with every label, the root of the count and the temperature, is a factor of the whole row. It stays out of
the codes: a factor for each class is sent beside them (float32), by which a replica multiplies the scale of the row.

Shapes: C classes, R features, M memories, O = C * M outputs, N rows since the base (`learner.fast.incremental`).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from learner.fast.incremental import IncrementalHead
from model.head import OUT
from model.qtensor import QTensor
from model.quantize import quantize_w8c

CODE_UNIT: Final = 2.0**-7
"""The rows are divided by it before they are rounded, so that their scales are no subnormal float16 numbers."""

MOVED: Final = 0.005
"""The bound of a row. Rounding it to INT8 moves it by about 0.8 % of its norm, more than what is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class RowDelta:
    """The rows that replace those of the head before, and the factors of all rows.

    `rows_C` are their numbers, int64, and `codes` their INT8 codes and scales (`w8c`) in this order. The weights of row
    c are q * scale * factors_C[c].
    """

    rows_C: Tensor
    codes: QTensor
    factors_C: Tensor


def row_delta(rows_C: Tensor, weights_CR: Tensor, factors_C: Tensor) -> RowDelta:
    """Rounds the weights of these rows, not multiplied by the factors of all classes. Raises NonFinite.

    The delta of all rows is a whole head.
    """
    codes = quantize_w8c(OUT, weights_CR / CODE_UNIT)
    return RowDelta(rows_C, codes, factors_C * CODE_UNIT)


class SentRows:
    """Knows what was sent of a head since its base, of which all rows were sent."""

    def __init__(self, head: IncrementalHead) -> None:
        self._head = head
        self._sent_NO = head.solution_NO.new_zeros(0, head.solution_NO.shape[1])
        self._norms_O = head.base.weights_OR.norm(dim=1)

    def stale(self, labelled_C: Tensor, *, bound: float) -> Tensor:
        """Returns the classes to send, in ascending order: `labelled_C`, and those that have moved.

        A class has moved when its weights in a memory differ from those sent by more than `bound` times their norm.
        """
        moved_NO = self._head.solution_NO.clone()
        moved_NO[: len(self._sent_NO)] -= self._sent_NO
        is_stale_O = self._head.lengths(moved_NO) > bound * self._norms_O
        is_stale_C = is_stale_O.view(-1, self._head.num_memories).any(dim=1)
        is_stale_C[labelled_C] = True
        stale_C: Tensor = is_stale_C.nonzero()
        return stale_C.flatten()

    def mark(self, rows_C: Tensor, weights_CMR: Tensor) -> None:
        """These classes are sent as they are now, with these weights."""
        outputs_O = self._head.outputs_of(rows_C)
        sent_NO = torch.zeros_like(self._head.solution_NO)
        sent_NO[: len(self._sent_NO)] = self._sent_NO
        sent_NO[:, outputs_O] = self._head.solution_NO[:, outputs_O]
        self._sent_NO = sent_NO
        self._norms_O[outputs_O] = weights_CMR.flatten(0, 1).norm(dim=1)
