"""The replay memory for rows of numbers: which rows stay is `Replay`'s to say, here they lie in one tensor.

Shape suffixes: B rows of a batch, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learner.config import ReplayPolicy
from learner.memory.replay import Replay, draw

NO_BOUND = 1 << 62
"""Bytes: all rows have one size, so their number bounds them."""


class RowSample(NamedTuple):
    """A sample by its place in the tensors."""

    place: int
    label: int
    stage: int
    num_bytes: int
    subject: str = ""


class RowBatch(NamedTuple):
    """Samples x [B, ...] with labels_B and the outputs logits_BC that they had when they were stored."""

    x: Tensor
    labels_B: Tensor
    logits_BC: Tensor


class RowMemory:
    """At most `capacity` rows. Tensors are made when the first rows come, in their shape."""

    def __init__(self, capacity: int, *, seed: int, policy: ReplayPolicy) -> None:
        self._rng = np.random.default_rng(seed)
        self._replay = Replay[RowSample](
            capacity, NO_BOUND, key_of=lambda row: float(self._rng.random()), policy=policy
        )
        self._free = list(range(capacity + 1))  # one more: a row has its place before another is dropped
        self._kept: RowBatch | None = None

    def add(self, rows: RowBatch, *, stage: int) -> None:
        """Offer rows, all of one stage."""
        num_bytes = sum(part[0].nbytes for part in rows)
        sources: dict[int, int] = {}  # place -> the last row of the batch that got it
        for source, label in enumerate(rows.labels_B.tolist()):
            place = self._free.pop()
            gone = [row.place for row in self._replay.add([RowSample(place, label, stage, num_bytes)])]
            self._free += gone
            if place not in gone:
                sources[place] = source
        if sources:
            self._write(list(sources), rows, list(sources.values()))

    def draw(self, num_rows: int) -> RowBatch | None:
        """Draws rows with replacement, each group of the policy equally likely; None while there are none."""
        places = torch.tensor([row.place for row in draw(self._replay.groups(is_ordered=False), num_rows, self._rng)])
        return RowBatch(*(part[places] for part in self._kept)) if self._kept and len(places) else None

    @property
    def num_bytes(self) -> int:
        return self._replay.num_bytes

    def _write(self, places: list[int], rows: RowBatch, sources: list[int]) -> None:
        if self._kept is None:
            self._kept = RowBatch(
                *(part.new_empty(len(self._free) + len(self._replay), *part.shape[1:]) for part in rows)
            )
        for kept, part in zip(self._kept, rows, strict=True):
            kept[places] = part[sources]
