"""The tensors of the kind `class`: the prediction is the class with the highest logit, and it is right or wrong.

    logits --softmax--> probabilities of the best classes; the best class is the prediction

Shapes: B texts, N samples, C classes, K best classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lifelong.plugins.kinds.temperature import fit_temperature
from model.kinds import (
    DEFAULT_TEMPERATURE,
    Calibration,
    Changes,
    Entries,
    Predicted,
    Space,
    best_rows,
    is_new,
    rows_in,
)
from wire.kinds import Fingerprint, name_hash


@dataclass(frozen=True, slots=True)
class ClassRanking:
    """The logits of a batch of texts and the rows of their best classes, best first."""

    logits_BC: Tensor
    classes_BK: Tensor
    labels: Sequence[str]

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        classes_BK = self.classes_BK[indices]
        scores_BK = torch.softmax(self.logits_BC[indices], dim=1).gather(1, classes_BK)
        if not torch.isfinite(scores_BK).all():
            raise ValueError("a score is not finite")
        if not self.labels:
            return [Predicted(None)] * len(indices)
        predictions: list[Predicted] = []
        for classes, scores in zip(classes_BK.tolist(), scores_BK.tolist(), strict=True):
            names = [self.labels[index] for index in classes]
            predictions.append(Predicted(names[0], scores[0], tuple(zip(names, scores, strict=True))))
        return predictions

    def fingerprints(self) -> list[Fingerprint]:
        if not self.labels:
            return [0] * len(self.logits_BC)
        return [name_hash(self.labels[index]) for index in self.classes_BK[:, 0].tolist()]


class ClassTargets(NamedTuple):
    """The row of each sample's class, or -1 if the class has no row."""

    rows_N: Tensor
    is_exclusive: bool = True
    default_temperature: float = DEFAULT_TEMPERATURE

    @property
    def calibrates_N(self) -> Tensor:
        return self.rows_N >= 0

    def right(self, logits_NC: Tensor) -> Tensor:
        return best_rows(logits_NC) == self.rows_N

    def num_named(self, logits_NC: Tensor) -> int:
        return len(set(best_rows(logits_NC).tolist()))

    def only(self, where_N: Tensor) -> "ClassTargets":
        return ClassTargets(self.rows_N[where_N])

    def among(self, num_classes: int) -> "ClassTargets":
        return self

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        return {}

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        # Each table has one more entry, which the index -1 (no class) finds.
        is_new_C = torch.cat([is_new(classes, before), torch.tensor([False])])
        is_gone_K = torch.tensor([*(label in retired for label in before), False])
        named_N = best_rows(logits_NC).clamp(min=-1)
        before_N = best_rows(before_NK).clamp(min=-1)
        is_changed_N = named_N != rows_in(classes, before)[before_N]
        is_new_N = is_new_C[named_N]
        num_rows = len(classes)
        return Changes(
            between_old=int((is_changed_N & ~is_new_N & ~is_gone_K[before_N]).sum()),
            to_new=int(is_new_N.sum()),
            named_C=named_N[named_N >= 0].bincount(minlength=num_rows),
            labelled_C=self.rows_N[self.rows_N >= 0].bincount(minlength=num_rows),
        )


class ClassTensors:
    """See `model.kinds.KindTensors`."""

    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> ClassRanking:
        return ClassRanking(logits_BC, logits_BC.topk(min(top_scores, len(labels)), dim=1).indices, labels)

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        return Entries(torch.tensor([rows[label] for label in labels], dtype=torch.int64))

    def targets(self, labels: Sequence[str], seeds: Sequence[str], classes: Sequence[str]) -> ClassTargets:
        row_of = {label: row for row, label in enumerate(classes)}
        return ClassTargets(torch.tensor([row_of.get(label, -1) for label in labels], dtype=torch.int64))

    def calibrate(self, outputs_NC: Tensor, targets: ClassTargets) -> Calibration:
        return Calibration(fit_temperature(outputs_NC, partial(cross_entropy, target=targets.rows_N)))

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        return float((full_NC.argmax(dim=1) == served_NC.argmax(dim=1)).float().mean())


TENSORS: Final = ClassTensors()
