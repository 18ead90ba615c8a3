"""What the labels of samples say of the rows of a head: one row each, a set of rows, or a score; what is right of it.

    samples, classes --Targets.of--> rows_N, or has_NC --right(logits)--> bool [N]

One class is named where its logit is the highest, and is right or wrong. Of a set, every class is named whose logit is
above 0, and a sample counts as right by the F1 of the two sets and the number that is drawn for it (`wire.agreement`).
A score is the logit of its only row, and right by its absolute error and that number.

Rejected: two kinds of holdout (whatever is measured on it would have to know both).

Shapes: N samples, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mmh3
import torch
from torch import Tensor

from wire.agreement import draw_of
from wire.targets import VALUE_ROW, is_set, is_value, names_of, value_of


class Sets(NamedTuple):
    """Whether each sample has each class, how many names its set has (known or not), and what is drawn for it."""

    has_NC: Tensor
    sizes_N: Tensor
    draws_N: Tensor

    def f1(self, named_NC: Tensor) -> Tensor:
        """Returns the F1 of what is named (bool) beside each set."""
        return _f1(named_NC, self.has_NC, self.sizes_N)

    def micro_f1(self, named_NC: Tensor) -> float:
        """Returns the F1 of all names of all samples together, 2 TP / (named + labelled); 1 where there are none."""
        num = int(named_NC.sum() + self.sizes_N.sum())
        return 2 * int((named_NC & self.has_NC).sum()) / num if num else 1.0


class Values(NamedTuple):
    """The score of each sample, in [0, 1], and what is drawn for it."""

    units_N: Tensor
    draws_N: Tensor

    def errors(self, logits_NC: Tensor) -> Tensor:
        """Returns the absolute error of each sample; 1 where there is no row."""
        if not logits_NC.shape[1]:
            return torch.ones(len(self.units_N))
        return (logits_NC[:, 0].clamp(0.0, 1.0) - self.units_N).abs()


class Targets(NamedTuple):
    """`rows_N` is the row of each label, -1 where it has none; of a set, that of the class it is grouped by."""

    rows_N: Tensor
    sets: Sets | None = None
    values: Values | None = None

    @classmethod
    def of(cls, labels: Sequence[str], draws: Sequence[str], classes: Sequence[str]) -> "Targets":
        """Returns what `labels` say of `classes`. `draws[i]` is what the number of sample i is drawn by."""
        row_of = {label: row for row, label in enumerate(classes)}
        if labels and is_value(labels[0]):
            units_N = torch.tensor([value_of(label) for label in labels])
            draws_N = torch.tensor([draw_of(draw.encode()) for draw in draws])
            rows_N = torch.full((len(labels),), row_of.get(VALUE_ROW, -1))
            return cls(rows_N, values=Values(units_N, draws_N))
        if not any(map(is_set, labels)):
            return cls(torch.tensor([row_of.get(label, -1) for label in labels], dtype=torch.int64))
        sets = [names_of(label) if is_set(label) else () for label in labels]
        has_NC = torch.zeros(len(labels), len(classes), dtype=torch.bool)
        for place, names in enumerate(sets):
            has_NC[place, [row_of[name] for name in names if name in row_of]] = True
        grouped_by = [group_name(label, draw) for label, draw in zip(labels, draws, strict=True)]
        return cls(
            torch.tensor([row_of.get(name, -1) for name in grouped_by], dtype=torch.int64),
            Sets(
                has_NC,
                torch.tensor([len(names) for names in sets]),
                torch.tensor([draw_of(draw.encode()) for draw in draws]),
            ),
        )

    @property
    def is_known_N(self) -> Tensor:
        """Whether the class of each label has a row; of a set, the class that it is grouped by."""
        return self.rows_N >= 0

    def right(self, logits_NC: Tensor) -> Tensor:
        """Returns whether each sample is named rightly, bool [N]."""
        if self.values is not None:
            return self.values.draws_N < 1 - self.values.errors(logits_NC)
        if self.sets is not None:
            return self.sets.draws_N < self.sets.f1(logits_NC > 0)
        return best_rows(logits_NC) == self.rows_N

    def only(self, where_N: Tensor) -> "Targets":
        """Returns those of some samples, which a mask or places name."""
        sets = None if self.sets is None else Sets(*(each[where_N] for each in self.sets))
        values = None if self.values is None else Values(*(each[where_N] for each in self.values))
        return Targets(self.rows_N[where_N], sets, values)

    def among(self, num_classes: int) -> "Targets":
        """Returns the targets of those who know the first classes only: sets have no others."""
        if self.sets is None:
            return self
        has_NC = self.sets.has_NC[:, :num_classes]
        return Targets(self.rows_N, Sets(has_NC, has_NC.sum(dim=1), self.sets.draws_N))


def _f1(named_NC: Tensor, has_NC: Tensor, sizes_N: Tensor) -> Tensor:
    num_N = named_NC.sum(dim=1) + sizes_N
    f1_N: Tensor = torch.where(num_N == 0, 1.0, 2 * (named_NC & has_NC).sum(dim=1) / num_N.clamp(min=1))
    return f1_N


def mean_f1(one_NC: Tensor, other_NC: Tensor) -> float:
    """Returns the mean F1 of two sets of each sample, bool."""
    return float(_f1(one_NC, other_NC, other_NC.sum(dim=1)).mean())


def num_named(logits_NC: Tensor, targets: Targets) -> int:
    """Returns how many classes are named for some sample."""
    if targets.sets is not None:
        return int((logits_NC > 0).any(dim=0).sum())
    return len(set(best_rows(logits_NC).tolist()))


def best_rows(logits_NC: Tensor) -> Tensor:
    """Returns the row with the highest logit of each sample; -2, which is no row, where there are no classes."""
    return logits_NC.argmax(dim=1) if logits_NC.shape[1] else torch.full((len(logits_NC),), -2)


def group_name(label: str, draw: str) -> str:
    """Returns the class by which a sample is grouped: of a set, one of its names, each as likely by `draw`.

    >>> group_name("refund", "e-1"), group_name("\\x1drefund", "e-1"), group_name("\\x1d", "e-1")
    ('refund', 'refund', '')
    """
    if is_value(label):
        return VALUE_ROW
    if not is_set(label):
        return label
    return min(names_of(label), key=lambda name: mmh3.hash(f"{name}\n{draw}"), default="")
