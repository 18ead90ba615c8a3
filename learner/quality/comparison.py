"""Compares two versions on the same labelled samples, by counts: overall, by class, and by stage.

    right before, right after --> how many were lost, how many won: overall, by class, by stage

A stage is a group of classes that came at about the same time: the first of the NUM_STAGES groups holds the oldest
classes. All samples together hide that a few classes are forgotten, and a single class mostly has too few samples to
say anything; a stage lies between the two.

Shapes: N samples.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

NUM_STAGES = 5
"""Number of groups of classes, by when they came."""


class Paired(NamedTuple):
    """Counts of `num` samples: the older version had `right` of them right, the newer one `lost` and `won` some."""

    num: int = 0
    right: int = 0
    lost: int = 0
    won: int = 0

    @property
    def accuracy_before(self) -> float:
        """Accuracy of the older version, in [0, 1]; 0 without samples."""
        return self.right / max(self.num, 1)

    @property
    def accuracy(self) -> float:
        """Accuracy of the newer version, in [0, 1]; 0 without samples."""
        return (self.right - self.lost + self.won) / max(self.num, 1)

    @property
    def drop(self) -> float:
        """How much lower the accuracy of the newer version is."""
        return (self.lost - self.won) / max(self.num, 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The counts of all samples, of each row of the head, and of each stage, the oldest first."""

    overall: Paired = field(default_factory=Paired)
    classes: tuple[Paired, ...] = ()
    stages: tuple[Paired, ...] = ()


def compare(before_N: Tensor, after_N: Tensor, rows_N: Tensor, num_classes: int) -> Comparison:
    """Compares which samples were right (bool) before and after. `rows_N`: the row of each label, -1 for none.

    >>> before = torch.tensor([True, True, False])
    >>> after = torch.tensor([True, False, True])
    >>> compare(before, after, torch.tensor([0, 1, 1]), 2).classes
    (Paired(num=1, right=1, lost=0, won=0), Paired(num=2, right=1, lost=1, won=1))
    """
    outcomes_4N = torch.stack((torch.ones_like(before_N), before_N, before_N & ~after_N, after_N & ~before_N))
    known_N = rows_N >= 0
    stages_N = rows_N * NUM_STAGES // max(num_classes, 1)
    return Comparison(
        overall=Paired(*outcomes_4N.sum(dim=1).tolist()),
        classes=_grouped(outcomes_4N[:, known_N], rows_N[known_N], num_classes),
        stages=_grouped(outcomes_4N[:, known_N], stages_N[known_N], NUM_STAGES),
    )


def _grouped(outcomes_4N: Tensor, groups_N: Tensor, num_groups: int) -> tuple[Paired, ...]:
    counts_4G = torch.zeros(4, num_groups, dtype=torch.int64).index_add_(1, groups_N, outcomes_4N.long())
    return tuple(Paired(*counts) for counts in counts_4G.T.tolist())
