"""The tensors of the kind `multilabel`: the prediction is the set of classes with a logit above 0.

    logits --sigmoid--> probabilities of the best classes; predicted are classes above 0.5, at most MAX_WORDS

A prediction counts as right with a probability equal to the F1 of the predicted and the labelled set: the random number
that is drawn for each sample decides (randomised rounding, see `wire.kinds`).

Calibration subtracts a threshold from the outputs and divides them by a temperature. The threshold is the one with the
highest micro-F1 on the holdout (SCut of Yang 2001, with a single threshold for all classes). The temperature maximises
the binary likelihood.

Shapes: B texts, N samples, E entries, C classes, K best classes, M outputs of all classes for all samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lifelong.plugins.kinds.sets import unpack_names
from lifelong.plugins.kinds.temperature import MIN_SAMPLES, fit_temperature
from model.kinds import (
    DEFAULT_TEMPERATURE,
    Calibration,
    Changes,
    Entries,
    Predicted,
    Space,
    is_new,
    rows_in,
)
from wire.kinds import MAX_WORDS, Fingerprint, event_uniform_hash, group_name, name_hash

DEFAULT_THRESHOLD: Final = 0.5
"""The threshold until the holdout has enough samples: half way between the targets 0 and 1 of the outputs."""


@dataclass(frozen=True, slots=True)
class SetRanking:
    """The logits of a batch of texts and the rows of their best classes, best first.

    K is large enough for the predicted classes and for the `top_scores` that an answer lists.
    """

    logits_BC: Tensor
    classes_BK: Tensor
    labels: Sequence[str]
    top_scores: int

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        classes_BK = self.classes_BK[indices]
        scores_BK = torch.sigmoid(self.logits_BC[indices]).gather(1, classes_BK)
        if not torch.isfinite(scores_BK).all():
            raise ValueError("a score is not finite")
        if not self.labels:
            return [Predicted(None)] * len(indices)
        predictions: list[Predicted] = []
        for row, classes, scores in zip(indices, classes_BK.tolist(), scores_BK.tolist(), strict=True):
            named = self._named(row)
            num_listed = max(self.top_scores, len(named))
            listed = [(self.labels[index], score) for index, score in zip(classes, scores, strict=True)]
            predictions.append(Predicted(named, scores[0], tuple(listed[:num_listed])))
        return predictions

    def fingerprints(self) -> list[Fingerprint]:
        if not self.labels:
            return [0] * len(self.logits_BC)
        return [tuple(map(name_hash, self._named(row))) for row in range(len(self.logits_BC))]

    def _named(self, row: int) -> tuple[str, ...]:
        """Returns the predicted classes, best first."""
        classes_K = self.classes_BK[row, :MAX_WORDS]
        named_K = classes_K[self.logits_BC[row, classes_K] > 0]
        return tuple(self.labels[index] for index in named_K.tolist())


class SetTargets(NamedTuple):
    """The labelled sets of N samples.

    - `rows_N`: the row of the class by which the sample is grouped
    - `has_NC`: whether the set has the class
    - `sizes_N`: the number of names in the set, including names without a row
    - `draws_N`: the random draw of the sample
    """

    rows_N: Tensor
    has_NC: Tensor
    sizes_N: Tensor
    draws_N: Tensor
    is_exclusive: bool = False
    default_temperature: float = DEFAULT_TEMPERATURE

    @property
    def calibrates_N(self) -> Tensor:
        return torch.ones(len(self.rows_N), dtype=torch.bool)

    def right(self, logits_NC: Tensor) -> Tensor:
        return self.draws_N < f1_scores(logits_NC > 0, self.has_NC, self.sizes_N)

    def num_named(self, logits_NC: Tensor) -> int:
        return int((logits_NC > 0).any(dim=0).sum())

    def only(self, where_N: Tensor) -> "SetTargets":
        return SetTargets(self.rows_N[where_N], self.has_NC[where_N], self.sizes_N[where_N], self.draws_N[where_N])

    def among(self, num_classes: int) -> "SetTargets":
        """Returns the targets as if the first `num_classes` classes were the only ones: other names are left out."""
        has_NC = self.has_NC[:, :num_classes]
        return SetTargets(self.rows_N, has_NC, has_NC.sum(dim=1), self.draws_N)

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        return {"micro_f1": self.micro_f1(logits_NC > 0)}

    def micro_f1(self, named_NC: Tensor) -> float:
        """Returns the F1 over all names of all samples, 2 TP / (named + labelled), or 1 if there are no names."""
        num = int(named_NC.sum() + self.sizes_N.sum())
        return 2 * int((named_NC & self.has_NC).sum()) / num if num else 1.0

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        """Counts an event as changed between old classes if the two predicted sets differ in a class that both know.

        Apart from names of new classes, the F1 of the two sets can differ only then. An event with a new class in its
        predicted set is counted in `to_new`, too. If the reference has no classes, every event is counted there.
        """
        is_new_C = is_new(classes, before)
        named_NC = logits_NC > 0
        reference_NK = before_NK > 0
        # The predictions of the reference, by the rows of this version.
        rows_K = rows_in(classes, before)[:-1]
        is_known_K = rows_K >= 0
        before_NC = torch.zeros_like(named_NC)
        before_NC[:, rows_K[is_known_K]] = reference_NK[:, is_known_K]
        # A class of the reference that this version lacks, although it was not retired, is a difference, too.
        is_gone_K = ~is_known_K & torch.tensor([label not in retired for label in before], dtype=torch.bool)
        is_changed_N = (named_NC & ~is_new_C != before_NC).any(dim=1) | reference_NK[:, is_gone_K].any(dim=1)
        return Changes(
            between_old=int(is_changed_N.sum()),
            to_new=int(named_NC[:, is_new_C].any(dim=1).sum()) if before else len(logits_NC),
            named_C=named_NC.sum(dim=0),
            labelled_C=self.has_NC.sum(dim=0),
        )


class SetTensors:
    """See `model.kinds.KindTensors`."""

    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> SetRanking:
        num_best = min(max(top_scores, MAX_WORDS), len(labels))
        return SetRanking(logits_BC, logits_BC.topk(num_best, dim=1).indices, labels, top_scores)

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        sets = list(map(unpack_names, labels))
        sizes_B = torch.tensor([len(names) for names in sets])
        places_E = torch.arange(len(sets)).repeat_interleave(sizes_B)
        return Entries(torch.tensor([rows[name] for name in chain.from_iterable(sets)], dtype=torch.int64), places_E)

    def targets(self, labels: Sequence[str], seeds: Sequence[str], classes: Sequence[str]) -> SetTargets:
        row_of = {label: row for row, label in enumerate(classes)}
        sets = list(map(unpack_names, labels))
        has_NC = torch.zeros(len(labels), len(classes), dtype=torch.bool)
        for place, names in enumerate(sets):
            has_NC[place, [row_of[name] for name in names if name in row_of]] = True
        grouped_by = [group_name(label, seed) for label, seed in zip(labels, seeds, strict=True)]
        return SetTargets(
            torch.tensor([row_of.get(name, -1) for name in grouped_by], dtype=torch.int64),
            has_NC,
            torch.tensor([len(names) for names in sets]),
            torch.tensor([event_uniform_hash(seed.encode()) for seed in seeds]),
        )

    def calibrate(self, outputs_NC: Tensor, targets: SetTargets) -> Calibration:
        threshold = fit_threshold(outputs_NC, targets.has_NC)
        loss = partial(binary_cross_entropy_with_logits, target=targets.has_NC.float())
        return Calibration(fit_temperature(outputs_NC - threshold, loss), threshold)

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        """Returns the mean F1 of the two predicted sets of each text.

        For a head without a threshold, returns how often the best class is the same.
        """
        if not threshold:
            return float((full_NC.argmax(dim=1) == served_NC.argmax(dim=1)).float().mean())
        named_NC = served_NC > 0
        return float(f1_scores(full_NC > threshold, named_NC, named_NC.sum(dim=1)).mean())


def f1_scores(named_NC: Tensor, has_NC: Tensor, sizes_N: Tensor) -> Tensor:
    """Returns the F1 of each predicted set with its labelled set, float32 [N]; 1 if both are empty.

    A labelled set has `sizes_N` names, which may be more than `has_NC` shows: some names may have no row.
    """
    num_N = named_NC.sum(dim=1) + sizes_N
    f1_N: Tensor = torch.where(num_N == 0, 1.0, 2 * (named_NC & has_NC).sum(dim=1) / num_N.clamp(min=1))
    return f1_N


def fit_threshold(outputs_BC: Tensor, has_BC: Tensor) -> float:
    """Returns the threshold with the highest micro-F1, 2 TP / (named + labelled), half way between two outputs.

    Returns DEFAULT_THRESHOLD if there are fewer than MIN_SAMPLES samples, or if no sample has a class.

    >>> fit_threshold(torch.tensor([[0.9, 0.2]] * 50), torch.tensor([[True, False]] * 50))
    0.55
    """
    if len(outputs_BC) < MIN_SAMPLES or not has_BC.any():
        return DEFAULT_THRESHOLD
    outputs_M, order_M = outputs_BC.flatten().sort(descending=True)
    num_right_M = has_BC.flatten()[order_M].cumsum(dim=0)
    num_named_M = torch.arange(1, len(outputs_M) + 1)
    f1_M = 2 * num_right_M / (num_named_M + num_right_M[-1])
    # A threshold cannot separate equal outputs.
    f1_M[:-1][outputs_M[:-1] == outputs_M[1:]] = -1.0
    last = int(f1_M.argmax())
    below = outputs_M[min(last + 1, len(outputs_M) - 1)]
    return round(float(outputs_M[last] + below) / 2, 6)


TENSORS: Final = SetTensors()
