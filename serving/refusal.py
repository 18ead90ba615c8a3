"""Selective prediction: an answer gets the fallback label if the version is not certain enough of its class.

    logits --free energy, among the quantiles of the manifest--> certainty --below the threshold--> refused

The certainty of a text is a rank: the share of the holdout samples of which the version is less certain. Holdout
samples have known classes. So the threshold is also the share of texts of known classes that are refused. Most of the
other refused texts belong to no class.

The threshold is set in the settings, or it is the lowest threshold that keeps the error rate in the settings. It
depends only on the settings and the manifest, so it is the same in all replicas. A refused answer still has the
version's prediction in `scores` and in the receipt: the learner and the rollout judge this prediction, not the refusal.

Shapes: B texts, C classes.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from torch import Tensor

from model.head import free_energies
from serving.config import RefusalConfig
from wire.records import Answer, Certainty

NO_REFUSALS: Final = RefusalConfig()
NOT_MEASURED: Final = Certainty()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Decides which answers of one version are refused, by the settings and the certainty that its manifest states.

    If the settings refuse nothing, a version has no Refusal.
    """

    config: RefusalConfig
    measured: Certainty = NOT_MEASURED
    threshold: float = field(init=False)
    """Answers with a lower certainty are refused."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _threshold(self.config, self.measured.risks))

    def certainties(self, logits_BC: Tensor) -> list[float | None]:
        """Returns the certainty of each text, in [0, 1]; None if the manifest has no quantiles, or C is 0."""
        quantiles = self.measured.quantiles
        if not quantiles or not logits_BC.shape[1]:
            return [None] * len(logits_BC)
        energies = free_energies(logits_BC, self.measured.temperature).tolist()
        return [share_below(quantiles, energy) for energy in energies]

    def apply(self, answer: Answer, certainty: float | None) -> Answer:
        """Returns the answer with its certainty, and with the fallback label if it is refused."""
        if answer.label is None:
            return answer
        is_uncertain = certainty is not None and certainty < self.threshold
        rounded = None if certainty is None else round(certainty, 4)
        if not is_uncertain and answer.score >= self.config.min_score:
            return msgspec.structs.replace(answer, certainty=rounded)
        return msgspec.structs.replace(answer, certainty=rounded, label=self.config.label, refused=True)


def _threshold(config: RefusalConfig, risks: Sequence[float]) -> float:
    """Returns the certainty below which answers are refused; 0 if the manifest has no `risks`.

    `risks[i]` is the risk at the threshold i / (len(risks) - 1). If no threshold keeps `max_risk`, the threshold with
    the least risk is used.
    """
    if not risks:
        return 0.0
    max_risk = max(config.max_risk, min(risks)) if config.max_risk else 1.0
    first = next(index for index, risk in enumerate(risks) if risk <= max_risk)
    return max(config.known_share, first / (len(risks) - 1))


def share_below(quantiles: Sequence[float], value: float) -> float:
    """Returns the share of a distribution below `value`, interpolated between its evenly spaced quantiles.

    >>> [share_below((0.0, 1.0, 3.0), value) for value in (-1.0, 0.5, 2.0, 4.0)]
    [0.0, 0.25, 0.75, 1.0]
    """
    index = bisect_left(quantiles, value)
    if index == 0 or index == len(quantiles):
        return float(index > 0)
    low = quantiles[index - 1]
    fraction = (value - low) / (quantiles[index] - low)
    return (index - 1 + fraction) / (len(quantiles) - 1)
