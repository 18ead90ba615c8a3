"""Implements the replay memory for rows of numbers. `Replay` decides which rows stay; the rows lie in one tensor.

Shape suffixes: B rows of a batch, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learner.config import ReplayPolicy
from learner.memory.policies import draw
from learner.memory.replay import Replay

NO_BOUND = 1 << 62
"""The bound in bytes is off: all rows have one size, so their number bounds them."""


class RowSample(NamedTuple):
    """A sample, given by its index in the tensors."""

    place: int
    label: int
    experience: int
    num_bytes: int
    subject: str = ""


class RowBatch(NamedTuple):
    """Samples x [B, ...] with labels_B and the outputs logits_BC that they had when they were stored."""

    x: Tensor
    labels_B: Tensor
    logits_BC: Tensor


class RowMemory:
    """Stores at most `capacity` rows. The tensors are allocated when the first rows come, in their shape."""

    def __init__(self, capacity: int, *, seed: int, policy: ReplayPolicy) -> None:
        self._rng = np.random.default_rng(seed)
        self._replay = Replay[RowSample](
            capacity, NO_BOUND, key_of=lambda row: float(self._rng.random()), policy=policy
        )
        self._free = list(range(capacity + 1))  # one more than fit: a row gets its place before another is evicted
        self._rows: RowBatch | None = None

    def add(self, rows: RowBatch, *, experience: int) -> None:
        """Offers rows, all of one experience."""
        num_bytes = sum(part[0].nbytes for part in rows)
        sources: dict[int, int] = {}  # place -> the last row of the batch that got it
        for source, label in enumerate(rows.labels_B.tolist()):
            place = self._free.pop()
            evicted = [row.place for row in self._replay.add([RowSample(place, label, experience, num_bytes)])]
            self._free += evicted
            if place not in evicted:
                sources[place] = source
        if sources:
            self._write(list(sources), rows, list(sources.values()))

    def draw(self, num_rows: int) -> RowBatch | None:
        """Draws rows with replacement, each group of the policy equally likely; None while there are none."""
        places = torch.tensor([row.place for row in draw(self._replay.groups(is_ordered=False), num_rows, self._rng)])
        if self._rows is None or not len(places):
            return None
        return RowBatch(*(part[places] for part in self._rows))

    def __len__(self) -> int:
        return len(self._replay)

    @property
    def num_bytes(self) -> int:
        return self._replay.num_bytes

    def _write(self, places: list[int], rows: RowBatch, sources: list[int]) -> None:
        if self._rows is None:
            num_places = len(self._free) + len(self._replay)
            self._rows = RowBatch(*(part.new_empty(num_places, *part.shape[1:]) for part in rows))
        for stored, part in zip(self._rows, rows, strict=True):
            stored[places] = part[sources]
