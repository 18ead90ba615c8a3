"""Compares prequential accuracy with an instant oracle: the cost of late labels, and the value of learning. Pure.

    asked events (text, label, times) --frozen encoder--> z_ND --replay in the order of time--> right_NV

- as given: the answer of the service, given before the label came back. A missing answer or class counts as wrong.
- oracle: the nearest class mean over all labels that had come back when the event was sent, under the frozen encoder.
- without learning: the same, but only over labels that came back while the first tenth of the events was sent.

The measure is test-then-train under verification latency (Grzenda, Gomes and Bifet 2020; first-time predictions). All
times are from the clock of the load generator. A label had come back if it was written before the event was sent.
Events whose label never came are left out of all three. The oracle is a baseline and not an upper bound: a ratio above
1 is possible. It differs from the service, because it also learns the service's holdout.

Shape suffixes: N events, D width, S stages, V the three verdicts, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from evals.continual.heads import NearestMean
from evals.load.curve import Curve, Point

FIRST_FRACTION: Final = 0.1
"""The fraction of the events after which the baseline without learning stops learning."""

NUM_RESAMPLES: Final = 2_000
"""The number of resamples of the bootstrap over stages."""


@dataclass(frozen=True, slots=True)
class AskedEvent:
    """A training event of a finished run. `label_ms` is the time at which its label was written (None: never)."""

    text: str
    label: str
    stage: int
    sent_ms: int
    label_ms: int | None
    is_right: bool
    """Whether the service's answer was right. It is false if there was no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrequentialFigures:
    """Prequential accuracies in percent. `ratio` is `as_given` divided by `oracle`, or None if `oracle` is 0."""

    events: int
    """The number of events whose label came back."""
    as_given: float
    oracle: float
    without_learning: float
    ratio: float | None
    ratio_low: float | None
    """The 2.5th percentile of the ratio, by a bootstrap over whole stages."""
    ratio_high: float | None
    """The 97.5th percentile of the ratio."""
    by_stage: tuple[tuple[float, ...], ...]
    """For the events of each stage: the accuracies as given, of the oracle, and without learning."""
    encoder: str
    """The digest of the frozen encoder."""


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """The events whose label came back, in the order of time, with three verdicts each.

    `right_NV` says whether the prediction was right (bool): as given, of the oracle, and without learning.
    """

    events: Sequence[AskedEvent]
    right_NV: Tensor

    def curves(self, started_ms: int) -> dict[str, list[Point]]:
        """Returns the accuracy over time of the oracle and without learning, by name. Time starts at `started_ms`."""
        curves = {}
        for column, name in ((1, "oracle"), (2, "without learning")):
            curve = Curve()
            for event, is_right in zip(self.events, self.right_NV[:, column].tolist(), strict=True):
                curve.add(event.sent_ms, right=is_right)
            curves[name] = curve.points(started_ms)
        return curves

    def figures(self, num_stages: int, *, encoder: str, seed: int = 0) -> PrequentialFigures:
        """Returns the figures. All events must be of stages below `num_stages`.

        `encoder` is the digest of the frozen encoder, and `seed` the seed of the bootstrap.
        """
        stages_N = torch.tensor([event.stage for event in self.events], dtype=torch.int64)
        hits_SV = torch.zeros(num_stages, 3, dtype=torch.float64).index_add_(0, stages_N, self.right_NV.double())
        sent_S = torch.bincount(stages_N, minlength=num_stages).double()
        as_given, oracle, without_learning = _percent(hits_SV.sum(dim=0), sent_S.sum())
        low, high = _interval(hits_SV, seed)
        return PrequentialFigures(
            events=len(self.events),
            as_given=as_given,
            oracle=oracle,
            without_learning=without_learning,
            ratio=_ratio(hits_SV.sum(dim=0)),
            ratio_low=low,
            ratio_high=high,
            by_stage=tuple(_percent(hits_V, sent) for hits_V, sent in zip(hits_SV, sent_S, strict=True)),
            encoder=encoder,
        )


def replay(asked: Sequence[AskedEvent], encode: Callable[[Sequence[str]], Tensor]) -> ReplayedRun:
    """Replays a run with its recorded times. `encode` is the frozen encoder, which returns unit vectors z_ND."""
    known = [event for event in asked if event.label_ms is not None]
    events = sorted(known, key=lambda event: event.sent_ms)
    z_ND = encode([event.text for event in events])
    first_ends_ms = events[int(FIRST_FRACTION * len(events))].sent_ms if events else 0
    as_given = [event.is_right for event in events]
    columns = [as_given, _nearest_mean(events, z_ND), _nearest_mean(events, z_ND, until_ms=first_ends_ms)]
    return ReplayedRun(events, torch.tensor(columns, dtype=torch.bool).T)


def _nearest_mean(events: Sequence[AskedEvent], z_ND: Tensor, *, until_ms: float = float("inf")) -> list[bool]:
    """Returns whether the nearest class mean predicts each event rightly.

    It learns each label at the time when the label was written, but no label from `until_ms` on.
    """
    labels = [(event.label_ms, row) for row, event in enumerate(events) if event.label_ms is not None]
    coming = sorted(label for label in labels if label[0] < until_ms)
    head = NearestMean(z_ND.shape[1], capacity=len({event.label for event in events}))
    num_learnt = 0
    right: list[bool] = []
    for row, event in enumerate(events):
        while num_learnt < len(coming) and coming[num_learnt][0] < event.sent_ms:
            learnt = coming[num_learnt][1]
            head.admit(events[learnt].label)
            head.learn_many(z_ND[learnt : learnt + 1], [events[learnt].label])
            num_learnt += 1
        best = int(head.predict_many(z_ND[row : row + 1]).argmax()) if head.classes else -1
        right.append(best >= 0 and head.classes[best] == event.label)
    return right


def _percent(hits_V: Tensor, sent: Tensor) -> tuple[float, ...]:
    return tuple(round(100.0 * hits / max(1.0, sent.item()), 2) for hits in hits_V.tolist())


def _ratio(hits_V: Tensor) -> float | None:
    as_given, oracle, _ = hits_V.tolist()
    return round(as_given / oracle, 4) if oracle else None


def _interval(hits_SV: Tensor, seed: int) -> tuple[float | None, float | None]:
    """Returns the bounds of the middle 95 % of the ratio, by a bootstrap over the stages (Efron 1979)."""
    generator = torch.Generator().manual_seed(seed)
    stages_RS = torch.randint(len(hits_SV), (NUM_RESAMPLES, len(hits_SV)), generator=generator)
    sums_RV = hits_SV[stages_RS].sum(dim=1)
    ratios_R = sums_RV[:, 0] / sums_RV[:, 1]
    known_R = ratios_R[ratios_R.isfinite()]
    if not len(known_R):
        return None, None
    low, high = known_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return round(low, 4), round(high, 4)
