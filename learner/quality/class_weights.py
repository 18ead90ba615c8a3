"""Class weights: how much a right prediction of each class is worth, if some classes matter more (fraud, faults).

    weights of classes --class_bias--> log w, added to the logits --softmax--> w p / sum of w p --> the predicted class
    holdout, counts of the labels --rank_classes--> average precision of each weighted class, independent of its weight

The class with the highest product of weight and probability is predicted. This is equivalent to training on a stream in
which the class is more frequent by the factor of its weight (Elkan 2001, "The foundations of cost-sensitive learning",
theorems 1 and 2). The sums of the head do not depend on the weights, so weights may be changed at any start of the
learner.

If only 2 of 1,000 events belong to a class, accuracy says little about the class, whatever its weight. Average
precision does: all events are sorted by the probability of the class, and the precisions at each event of the class are
averaged. The holdout has equally many samples of each class, although the stream has not. So each holdout sample counts
for the labels that it represents: the labels of its class, divided by the holdout samples of its class.

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
"""The number of bootstrap samples of the holdout: enough for the standard error to within a tenth."""

MAX_RANKED: Final = 8
"""The most classes that are ranked for each version: the classes of the highest weights."""

MIN_SAMPLES: Final = 8
"""The fewest holdout samples of a class from which its average precision is measured."""


class Weighted(NamedTuple):
    """The class weights other than 1, and the number of labels of each class."""

    class_weights: Mapping[str, float]
    num_by_class: Mapping[str, int]

    def represented_labels(self, scored: ScoredHoldout) -> Tensor:
        """Returns how many labels each holdout sample represents, [N].

        It is the number of labels of its class, divided by the number of holdout samples of its class.
        """
        in_holdout = Counter(sample.label for sample in scored.samples)
        labels = [sample.label for sample in scored.samples]
        return torch.tensor([self.num_by_class.get(label, 0) / in_holdout[label] for label in labels])


NO_WEIGHTS: Final = Weighted({}, {})


class RankedClass(NamedTuple):
    """The average precision with which a version (`value`) and its `parent` rank the events of a class, in [0, 1].

    `error` is the standard error of the difference. Without a parent, `parent` equals `value`, and `error` is 0.
    """

    value: float
    parent: float
    error: float = 0.0

    def is_worse(self, tolerance: float, sigmas: float) -> bool:
        """Returns whether average precision fell by more than `tolerance` and more than `sigmas` standard errors."""
        return self.parent - self.value > max(tolerance, sigmas * self.error)


def class_bias(class_weights: Mapping[str, float], classes: Sequence[str]) -> Tensor | None:
    """Returns the logarithm of each class's weight, bias_C; None if all weights are 1."""
    if not class_weights:
        return None
    return torch.tensor([math.log(class_weights.get(label, 1.0)) for label in classes])


def average_precision(scores_N: Tensor, is_of_class_N: Tensor, weights_N: Tensor) -> float:
    """Returns the average precision of the ranking by `scores_N`. Sample n counts `weights_N[n]` times.

    >>> scores, is_of_class = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True])
    >>> round(average_precision(scores, is_of_class, torch.ones(3)), 3)
    0.833
    """
    return float(_precisions(scores_N, is_of_class_N, weights_N[None])[0])


def _precisions(scores_N: Tensor, is_of_class_N: Tensor, weights_BN: Tensor) -> Tensor:
    """Returns the average precision under each row of weights, float64 [B]; 0 if no sample of the class has weight."""
    order_N = scores_N.argsort(descending=True, stable=True)
    all_BN = weights_BN[:, order_N].double()
    right_BN = all_BN * is_of_class_N[order_N]
    precision_BN = right_BN.cumsum(dim=1) / all_BN.cumsum(dim=1).clamp(min=1e-12)
    return (precision_BN * right_BN).sum(dim=1) / right_BN.sum(dim=1).clamp(min=1e-12)


def rank_classes(weighted: Weighted, scored: ScoredHoldout, parent: ScoredHoldout | None) -> dict[str, RankedClass]:
    """Returns how well a version and its parent rank the events of each class with a weight, by class.

    Only the MAX_RANKED classes with the highest weights are ranked, and only if they have MIN_SAMPLES holdout samples.
    """
    if not weighted.class_weights:
        return {}
    heaviest = sorted(weighted.class_weights, key=lambda label: (-weighted.class_weights[label], label))
    weights_N = weighted.represented_labels(scored)
    ranked = dict[str, RankedClass]()
    for label in heaviest[:MAX_RANKED]:
        is_of_class_N = torch.tensor([sample.label == label for sample in scored.samples], dtype=torch.bool)
        if label not in scored.classes or int(is_of_class_N.sum()) < MIN_SAMPLES:
            continue
        scores_N = _scores(scored, label)
        parents_N = _scores(parent, label) if parent is not None and label in parent.classes else None
        ranked[label] = _ranked(scores_N, parents_N, is_of_class_N, weights_N)
    return ranked


def _ranked(scores_N: Tensor, parents_N: Tensor | None, is_of_class_N: Tensor, weights_N: Tensor) -> RankedClass:
    value = average_precision(scores_N, is_of_class_N, weights_N)
    if parents_N is None:
        return RankedClass(value, value)
    num = len(weights_N)
    # Both versions are measured on the same resamples, so their common variance cancels.
    drawn_BN = torch.randint(num, (NUM_RESAMPLES, num), generator=torch.Generator().manual_seed(0))
    times_BN = torch.zeros(NUM_RESAMPLES, num).scatter_add_(1, drawn_BN, torch.ones(NUM_RESAMPLES, num))
    weights_BN = times_BN * weights_N
    differences_B = _precisions(scores_N, is_of_class_N, weights_BN)
    differences_B -= _precisions(parents_N, is_of_class_N, weights_BN)
    return RankedClass(value, average_precision(parents_N, is_of_class_N, weights_N), float(differences_B.std()))


def _scores(scored: ScoredHoldout, label: str) -> Tensor:
    """Returns the log odds of a class for each sample, [N]. The weight of the class only adds a constant to them."""
    row = scored.classes.index(label)
    others_NC = torch.cat([scored.logits_NC[:, :row], scored.logits_NC[:, row + 1 :]], dim=1)
    return scored.logits_NC[:, row] - others_NC.logsumexp(dim=1)
