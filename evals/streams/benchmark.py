"""Defines a benchmark for learners: stages of training items, each with test items of the same classes.

The inputs of a `Part` are `Texts` or rows of numbers (Tensor [N, ...], floats or bytes). The labels are class ids,
which index `Benchmark.classes`. All stages together are one pass over the data: no item comes twice.

Shape suffix: N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from evals.streams.stream import Stage

Texts: TypeAlias = list[str]
X = TypeVar("X", Texts, Tensor)


@dataclass(frozen=True, slots=True)
class Part(Generic[X]):
    """Items in the order in which they come, with their class ids labels_N (int64)."""

    inputs: X
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def batches(self, size: int) -> "list[Part[X]]":
        """Returns the same items in batches of at most `size`."""
        batches = []
        for start in range(0, len(self), size):
            end = start + size
            batches.append(Part(self.inputs[start:end], self.labels_N[start:end]))
        return batches


@dataclass(frozen=True, slots=True)
class Benchmark(Generic[X]):
    """A named data set as stages."""

    name: str
    """The value of `--data`."""
    classes: tuple[str, ...]
    stages: tuple[Stage[Part[X]], ...]
    is_ordered: bool = False
    """Whether the items are in the order of time and must not be shuffled."""
    unlabelled: X | None = None
    """Items without labels, which come before all stages. Contenders that consist of a head only ignore them."""

    @property
    def num_items(self) -> int:
        """The number of training items of all stages."""
        return sum(len(stage.train) for stage in self.stages)


def joined(parts: Sequence[Part[X]], order_N: Tensor) -> Part[X]:
    """Concatenates the parts and permutes the items: item i of the result is item `order_N[i]` of the concatenation."""
    labels_N = torch.cat([part.labels_N for part in parts])[order_N]
    first = parts[0].inputs
    if isinstance(first, Tensor):
        return Part(torch.cat([part.inputs for part in parts])[order_N], labels_N)
    texts = list(chain.from_iterable(part.inputs for part in parts))
    return Part([texts[index] for index in order_N.tolist()], labels_N)
