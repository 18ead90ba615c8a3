"""The tensors of intervals: the logits of the two rows, between 0 and 1, are the places of the ends in the range.

Shapes: N samples, B texts, C = 2 rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lifelong.plugins.kinds.scores import unit_bits
from model.kinds import Calibration, Changes, Entries, Predicted, Space
from tests.doors.interval import ROWS, parse_ends
from wire.kinds import Fingerprint, event_uniform_hash


def ends_in(logits_NC: Tensor) -> Tensor:
    """Returns both ends, the lower one first; a head without rows covers all."""
    if not logits_NC.shape[1]:
        return torch.tensor([[0.0, 1.0]]).repeat(len(logits_NC), 1)
    return logits_NC.clamp(0.0, 1.0).sort(dim=1).values


def overlap(one_N2: Tensor, other_N2: Tensor) -> Tensor:
    covered_N = torch.maximum(one_N2[:, 1], other_N2[:, 1]) - torch.minimum(one_N2[:, 0], other_N2[:, 0])
    common_N = torch.minimum(one_N2[:, 1], other_N2[:, 1]) - torch.maximum(one_N2[:, 0], other_N2[:, 0])
    return torch.where(covered_N > 0, (common_N / covered_N).clamp(min=0.0), 1.0)


@dataclass(frozen=True)
class IntervalRanking:
    logits_BC: Tensor
    is_known: bool
    space: Space

    def predictions(self, indices: Sequence[int]) -> list[Predicted]:
        if not self.is_known:
            return [Predicted(None)] * len(indices)
        ends_B2 = self.space.low + ends_in(self.logits_BC[indices]) * (self.space.high - self.space.low)
        return [Predicted({"low": low, "high": high}) for low, high in ends_B2.tolist()]

    def fingerprints(self) -> list[Fingerprint]:
        if not self.is_known:
            return [0] * len(self.logits_BC)
        return [(unit_bits(low), unit_bits(high)) for low, high in ends_in(self.logits_BC).tolist()]


class IntervalTargets(NamedTuple):
    rows_N: Tensor
    ends_N2: Tensor
    draws_N: Tensor
    is_exclusive: bool = False
    default_temperature: float = 1.0

    @property
    def calibrates_N(self) -> Tensor:
        return torch.ones(len(self.rows_N), dtype=torch.bool)

    def right(self, logits_NC: Tensor) -> Tensor:
        return self.draws_N < overlap(ends_in(logits_NC), self.ends_N2)

    def num_named(self, logits_NC: Tensor) -> int:
        return int(logits_NC.shape[1])

    def only(self, where_N: Tensor) -> "IntervalTargets":
        return IntervalTargets(self.rows_N[where_N], self.ends_N2[where_N], self.draws_N[where_N])

    def among(self, num_classes: int) -> "IntervalTargets":
        return self

    def figures(self, logits_NC: Tensor, space: Space) -> dict[str, float]:
        return {"overlap": float(overlap(ends_in(logits_NC), self.ends_N2).mean())}

    def changes(
        self,
        logits_NC: Tensor,
        before_NK: Tensor,
        classes: Sequence[str],
        before: Sequence[str],
        retired: frozenset[str],
    ) -> Changes:
        none_C = torch.zeros(len(classes), dtype=torch.int64)
        if not before:
            return Changes(0, len(logits_NC), none_C, none_C)
        is_changed_N = self.draws_N >= overlap(ends_in(logits_NC), ends_in(before_NK))
        return Changes(int(is_changed_N.sum()), 0, none_C, none_C)


class IntervalTensors:
    def rank(self, logits_BC: Tensor, labels: Sequence[str], space: Space, top_scores: int) -> IntervalRanking:
        return IntervalRanking(logits_BC, bool(labels), space)

    def entries(self, labels: Sequence[str], rows: Mapping[str, int]) -> Entries:
        rows_2 = torch.tensor([rows[name] for name in ROWS])
        places_E = torch.arange(len(labels)).repeat_interleave(2)
        return Entries(rows_2.repeat(len(labels)), places_E, self._ends(labels).double().flatten())

    def targets(self, labels: Sequence[str], seeds: Sequence[str], classes: Sequence[str]) -> IntervalTargets:
        row = classes.index(ROWS[0]) if ROWS[0] in classes else -1
        draws_N = torch.tensor([event_uniform_hash(seed.encode()) for seed in seeds])
        return IntervalTargets(torch.full((len(labels),), row), self._ends(labels), draws_N)

    def calibrate(self, outputs_NC: Tensor, targets: IntervalTargets) -> Calibration:
        return Calibration(1.0)

    def agreement(self, full_NC: Tensor, served_NC: Tensor, threshold: float) -> float:
        return float(overlap(ends_in(full_NC), ends_in(served_NC)).mean())

    def _ends(self, labels: Sequence[str]) -> Tensor:
        return torch.tensor([parse_ends(label) for label in labels]).reshape(len(labels), 2)


TENSORS: Final = IntervalTensors()
