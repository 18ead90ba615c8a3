"""The tensors of the kind `score`: the logit of the only row, clipped to [0, 1], is the scaled score.

A prediction counts as right with the probability 1 - |error|: the random number that is drawn for each sample decides
(randomised rounding, see `wire.kinds`).

Shapes: B texts, N samples, C = 1 row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lifelong.plugins.kinds.scores import VALUE_ROW, parse_score, unit_bits
from model.kinds import Calibration, Changes, Entries, Predicted, Space, best_rows
from wire.kinds import Fingerprint, event_uniform_hash


@dataclass(frozen=True, slots=True)
class ScoreRanking:
    """The logits of a batch of texts. `is_known` is false for a version that has learnt no score and has no row."""

    logits_BC: Tensor
    is_known: bool
    space: Space

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        if not self.is_known:
            return [Predicted(None)] * len(indices)
        logits_B = self.logits_BC[indices, 0]
        if not torch.isfinite(logits_B).all():
            raise ValueError("a score is not finite")
        low = self.space.low
        width = self.space.high - low
        return [Predicted(low + unit * width) for unit in logits_B.clamp(0.0, 1.0).tolist()]

    def fingerprints(self) -> list[Fingerprint]:
        if not self.is_known:
            return [0] * len(self.logits_BC)
        return [unit_bits(unit) for unit in self.logits_BC[:, 0].clamp(0.0, 1.0).tolist()]


class ScoreTargets(NamedTuple):
    """The scaled score and the random draw of each sample. `rows_N` are 0, or -1 if the head has no row yet."""

    rows_N: Tensor
    units_N: Tensor
    draws_N: Tensor
    is_exclusive: bool = False
    default_temperature: float = 1.0

    @property
    def calibrates_N(self) -> Tensor:
        return torch.ones(len(self.rows_N), dtype=torch.bool)

    def errors(self, logits_NC: Tensor) -> Tensor:
        """Returns the absolute error of each sample in [0, 1], which is 1 if there is no row."""
        if not logits_NC.shape[1]:
            return torch.ones(len(self.units_N))
        return (logits_NC[:, 0].clamp(0.0, 1.0) - self.units_N).abs()

    def right(self, logits_NC: Tensor) -> Tensor:
        return self.draws_N < 1 - self.errors(logits_NC)

    def num_named(self, logits_NC: Tensor) -> int:
        return len(set(best_rows(logits_NC).tolist()))

    def only(self, where_N: Tensor) -> "ScoreTargets":
        return ScoreTargets(self.rows_N[where_N], self.units_N[where_N], self.draws_N[where_N])

    def among(self, num_classes: int) -> "ScoreTargets":
        return self

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        """Returns the mean absolute error, in the unit of the scores."""
        return {"absolute_error": float(self.errors(logits_NC).mean()) * (space.high - space.low)}

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        """Counts a score as changed with a probability equal to the difference: the event's draw decides.

        If the reference has learnt no score, all scores are new.
        """
        none_C = torch.zeros(len(classes), dtype=torch.int64)
        if not before:
            return Changes(0, len(logits_NC), none_C, none_C)
        before_N = before_NK[:, 0].clamp(0.0, 1.0)
        # The scores of the reference take the place of the labels, so "errors" are differences from the reference.
        reference = ScoreTargets(self.rows_N, before_N, self.draws_N)
        is_changed_N = self.draws_N < reference.errors(logits_NC)
        return Changes(int(is_changed_N.sum()), 0, none_C, none_C)


class ScoreTensors:
    """See `model.kinds.KindTensors`."""

    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> ScoreRanking:
        return ScoreRanking(logits_BC, bool(labels), space)

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        values_E = torch.tensor([parse_score(label) for label in labels], dtype=torch.float64)
        return Entries(torch.tensor([rows[VALUE_ROW]] * len(labels), dtype=torch.int64), values_E=values_E)

    def targets(self, labels: Sequence[str], seeds: Sequence[str], classes: Sequence[str]) -> ScoreTargets:
        row = classes.index(VALUE_ROW) if VALUE_ROW in classes else -1
        return ScoreTargets(
            torch.full((len(labels),), row),
            torch.tensor([parse_score(label) for label in labels]),
            torch.tensor([event_uniform_hash(seed.encode()) for seed in seeds]),
        )

    def calibrate(self, outputs_NC: Tensor, targets: ScoreTargets) -> Calibration:
        """Returns the identity, since the logit is the score."""
        return Calibration(1.0)

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        """Returns 1: the only row is the prediction in every precision."""
        return 1.0


TENSORS: Final = ScoreTensors()
