"""Class weights: what a right label of a class is worth, where classes are not worth the same (fraud, faults).

    weights by class --bias_of--> log w, behind the head --softmax--> w p / sum of w p: the class of the most worth
    holdout, counts of the labels --rank_classes--> average precision of each weighted class, whatever its weight

A class is named where its weight times its probability is the highest: to move the threshold so is the same as to train
with so much more of the class (Elkan 2001, "The foundations of cost-sensitive learning", theorems 1 and 2), and the
sums of what was learnt stay those of all weights. So weights may be changed at any start of the learner.

Of a class of which 2 in 1,000 events are, accuracy says little, whatever it is weighted by: average precision does, the
mean of the precision at each of its events, when all are put in the order of their probability. The holdout has a class
as often as any other; each of its samples counts for as many labels as its class had.

Shapes: N samples, C classes, B resamples.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from learner.quality.comparison import ScoredHoldout

NUM_RESAMPLES: Final = 100
"""Bootstrap samples of the holdout: enough for a standard error within a tenth."""

MAX_RANKED: Final = 8
"""Most classes that are ranked for each version: those of the highest weights."""

MIN_SAMPLES: Final = 8
"""Fewest holdout samples of a class whose average precision says anything."""


class Weighted(NamedTuple):
    """The weights of classes other than 1, and how many labels each class had."""

    class_weights: Mapping[str, float]
    num_by_class: Mapping[str, int]

    def labels_of(self, scored: ScoredHoldout) -> Tensor:
        """Returns for how many labels each holdout sample counts: those of its class over its samples."""
        in_holdout = Counter(sample.label for sample in scored.samples)
        return torch.tensor([self.num_by_class.get(each.label, 0) / in_holdout[each.label] for each in scored.samples])


NO_WEIGHTS: Final = Weighted({}, {})


class RankedClass(NamedTuple):
    """Average precision of a class by a version and by its parent, in [0, 1], and the standard error of the difference.

    Without a parent, `parent` is `value`, and the error 0.
    """

    value: float
    parent: float
    error: float = 0.0

    def is_worse(self, tolerance: float, sigmas: float) -> bool:
        """Whether it fell by more than the tolerance, and by more than so many standard errors."""
        return self.parent - self.value > max(tolerance, sigmas * self.error)


def bias_of(class_weights: Mapping[str, float], classes: Sequence[str]) -> Tensor | None:
    """Returns the logarithm of each class's weight, bias_C; None where all are 1."""
    if not class_weights:
        return None
    return torch.tensor([math.log(class_weights.get(label, 1.0)) for label in classes])


def average_precision(scores_N: Tensor, is_of_class_N: Tensor, weights_N: Tensor) -> float:
    """Returns the average precision of `scores_N`, of which each counts `weights_N` times.

    >>> scores, is_of_class = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True])
    >>> round(average_precision(scores, is_of_class, torch.ones(3)), 3)
    0.833
    """
    return float(_precisions(scores_N, is_of_class_N, weights_N[None])[0])


def _precisions(scores_N: Tensor, is_of_class_N: Tensor, weights_BN: Tensor) -> Tensor:
    """Returns the average precision under each row of weights, float64 [B]; 0 where none of the class has a weight."""
    order_N = scores_N.argsort(descending=True, stable=True)
    all_BN = weights_BN[:, order_N].double()
    right_BN = all_BN * is_of_class_N[order_N]
    precision_BN = right_BN.cumsum(dim=1) / all_BN.cumsum(dim=1).clamp(min=1e-12)
    return (precision_BN * right_BN).sum(dim=1) / right_BN.sum(dim=1).clamp(min=1e-12)


def rank_classes(weighted: Weighted, scored: ScoredHoldout, parent: ScoredHoldout | None) -> dict[str, RankedClass]:
    """Returns how well a version ranks the classes of the highest weights, beside its parent where that has them.

    A class of fewer than MIN_SAMPLES holdout samples is left out.
    """
    if not weighted.class_weights:
        return {}
    heaviest = sorted(weighted.class_weights, key=lambda label: (-weighted.class_weights[label], label))
    weights_N = weighted.labels_of(scored)
    found = dict[str, RankedClass]()
    for label in heaviest[:MAX_RANKED]:
        is_of_class_N = torch.tensor([sample.label == label for sample in scored.samples], dtype=torch.bool)
        if label not in scored.classes or int(is_of_class_N.sum()) < MIN_SAMPLES:
            continue
        scores_N = _scores(scored, label)
        parents_N = _scores(parent, label) if parent is not None and label in parent.classes else None
        found[label] = _ranked(scores_N, parents_N, is_of_class_N, weights_N)
    return found


def _ranked(scores_N: Tensor, parents_N: Tensor | None, is_of_class_N: Tensor, weights_N: Tensor) -> RankedClass:
    value = average_precision(scores_N, is_of_class_N, weights_N)
    if parents_N is None:
        return RankedClass(value, value)
    num = len(weights_N)
    drawn_BN = torch.randint(num, (NUM_RESAMPLES, num), generator=torch.Generator().manual_seed(0))
    times_BN = torch.zeros(NUM_RESAMPLES, num).scatter_add_(1, drawn_BN, torch.ones(NUM_RESAMPLES, num))
    weights_BN = times_BN * weights_N
    differences_B = _precisions(scores_N, is_of_class_N, weights_BN)
    differences_B -= _precisions(parents_N, is_of_class_N, weights_BN)
    return RankedClass(value, average_precision(parents_N, is_of_class_N, weights_N), float(differences_B.std()))


def _scores(scored: ScoredHoldout, label: str) -> Tensor:
    """Returns the logarithm of the odds of a class, which its own weight moves alike for all samples."""
    row = scored.classes.index(label)
    others_NC = torch.cat([scored.logits_NC[:, :row], scored.logits_NC[:, row + 1 :]], dim=1)
    return scored.logits_NC[:, row] - others_NC.logsumexp(dim=1)
