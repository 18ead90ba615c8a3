"""The samples that the sums of a fast head took in since somebody looked last, for a head that is updated by them.

learn --add--> rows --take--> IncrementalHead        anything else that changes the sums --end--> solve anew
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from learner.labels.sample import Labelled

MAX_ROWS: Final = 512
"""The most rows that a head is updated by before its next base (`learner.fast.incremental`)."""


class Rows(NamedTuple):
    """Features, labels and contents of samples. `are_all`: whether the sums have taken in these and nothing else."""

    phi_BR: Tensor
    labels: list[str]
    contents: list[str]
    are_all: bool


class RowLog:
    """Holds the last samples, at most MAX_ROWS of them and of one more batch."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Sequence[Labelled]]] = []
        self._are_all = True

    def add(self, phi_BR: Tensor, samples: Sequence[Labelled]) -> None:
        """Adds samples that the sums took in, with their features."""
        self._batches.append((phi_BR[-MAX_ROWS:], samples[-MAX_ROWS:]))
        self._are_all = self._are_all and len(samples) <= MAX_ROWS
        while sum(len(batch) for _, batch in self._batches[1:]) > MAX_ROWS:
            del self._batches[0]
            self._are_all = False

    def end(self) -> None:
        """Takes note that the sums have changed in another way: the samples so far may be in them no longer."""
        self._batches = []
        self._are_all = False

    def encoded_again(self, encode: Callable[[Sequence[Labelled]], Tensor]) -> "RowLog":
        """Returns a log of the same samples, with the features that `encode` makes, for sums that were made anew."""
        log = RowLog()
        log._batches = [(encode(samples), samples) for _, samples in self._batches]
        log._are_all = False
        return log

    def take(self, num_features: int) -> Rows:
        """Returns what was added since the last call."""
        batches, are_all = self._batches, self._are_all
        self._batches = []
        self._are_all = True
        phi_BR = torch.cat([torch.empty(0, num_features), *(phi_BR for phi_BR, _ in batches)])
        samples = [sample for _, samples in batches for sample in samples]
        return Rows(phi_BR, [each.label for each in samples], [each.text for each in samples], are_all)
