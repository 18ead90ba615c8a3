"""What a learner is measured on: stages, one after another, each with the test items of what it taught.

Items are texts (`list[str]`) or rows of numbers (Tensor [N, ...], floats or bytes); their labels are class ids, which
are the places in `Benchmark.classes`. All stages together are one pass: no item comes twice.

Shape suffix: N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

X = TypeVar("X", list[str], Tensor)


@dataclass(frozen=True, slots=True)
class Part(Generic[X]):
    """Items in the order they come, with their class ids labels_N (int64)."""

    inputs: X
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def batches(self, size: int) -> "list[Part[X]]":
        """The same items, at most `size` at once."""
        return [Part(self.inputs[at : at + size], self.labels_N[at : at + size]) for at in range(0, len(self), size)]


@dataclass(frozen=True, slots=True)
class Stage(Generic[X]):
    """What is taught at one time, and what is tested of it from then on."""

    name: str
    train: Part[X]
    test: Part[X]


@dataclass(frozen=True, slots=True)
class Benchmark(Generic[X]):
    """A named data set as stages. `name` is what `--data` was given; `is_ordered`: items come in the order of time.

    `unlabelled`: items that come before all stages, and whose labels nobody ever says; heads alone pass them over.
    """

    name: str
    classes: tuple[str, ...]
    stages: tuple[Stage[X], ...]
    is_ordered: bool = False
    unlabelled: X | None = None


class Contender(Protocol[X]):
    """A learner that is measured.

    `num_bytes`: of the samples that it keeps; `precision`: in which its encoder and head answer (`int8`, `fp32`).
    """

    precision: str

    @property
    def num_bytes(self) -> int: ...

    def learn_many(self, part: Part[X]) -> None:
        """Learn the items in their order, each one seen for the first and last time; more calls follow."""

    def predict_many(self, inputs: X) -> Tensor:
        """The class ids, int64 [N], under what was learnt so far."""


def joined(parts: Sequence[Part[X]], order_N: Tensor) -> Part[X]:
    """All items of the parts as one, in the order given by their places."""
    labels_N = torch.cat([part.labels_N for part in parts])[order_N]
    first = parts[0].inputs
    if isinstance(first, Tensor):
        return Part(torch.cat([part.inputs for part in parts])[order_N], labels_N)
    texts = [text for part in parts for text in part.inputs]
    return Part([texts[place] for place in order_N.tolist()], labels_N)
