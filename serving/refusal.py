"""Refuses to name a class where a version is not certain enough: the answer has the fallback label (selective
prediction).

    logits --free energy, among the quantiles of the manifest--> certainty --below the threshold--> refused

The certainty of a text is the share of holdout samples, which are of known classes, that the version is less certain
of. So the threshold is the share of texts of known classes that are refused, and what is refused besides is mostly of
no class. The threshold is that of the settings, or the lowest that leaves a stated risk; both follow from the manifest
alone, so that all replicas agree. What the version names stays in `scores`, and in the receipt: the learner and the
rollout judge that.

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
    """Which answers of a version are refused: by the settings, and by what its manifest says of its certainty.

    If the settings refuse nothing, a version has none.
    """

    config: RefusalConfig
    measured: Certainty = NOT_MEASURED
    threshold: float = field(init=False)
    """The certainty below which answers are refused."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _threshold(self.config, self.measured.risks))

    def certainties(self, logits_BC: Tensor) -> list[float | None]:
        """Returns the certainty of each text, in [0, 1]; None if it was not measured."""
        quantiles = self.measured.quantiles
        if not quantiles or not logits_BC.shape[1]:
            return [None] * len(logits_BC)
        energies = free_energies(logits_BC, self.measured.temperature).tolist()
        return [share_below(quantiles, energy) for energy in energies]

    def applied(self, answer: Answer, certainty: float | None) -> Answer:
        """Returns the answer with its certainty, and with the fallback label where it is refused."""
        if answer.label is None:
            return answer
        is_uncertain = certainty is not None and certainty < self.threshold
        shown = None if certainty is None else round(certainty, 4)
        if not is_uncertain and answer.score >= self.config.min_score:
            return msgspec.structs.replace(answer, certainty=shown)
        return msgspec.structs.replace(answer, certainty=shown, label=self.config.label, refused=True)


def _threshold(config: RefusalConfig, risks: Sequence[float]) -> float:
    """Returns the certainty below which answers are refused; 0 where nothing was measured.

    Where no threshold leaves as little risk as `max_risk`, it is the one that leaves least.
    """
    if not risks:
        return 0.0
    max_risk = max(config.max_risk, min(risks)) if config.max_risk else 1.0
    place = next(place for place, risk in enumerate(risks) if risk <= max_risk)
    return max(config.known_share, place / (len(risks) - 1))


def share_below(quantiles: Sequence[float], value: float) -> float:
    """Returns the share of a distribution below `value`, linear between its quantiles.

    >>> [share_below((0.0, 1.0, 3.0), value) for value in (-1.0, 0.5, 2.0, 4.0)]
    [0.0, 0.25, 0.75, 1.0]
    """
    place = bisect_left(quantiles, value)
    if place == 0 or place == len(quantiles):
        return float(place > 0)
    low = quantiles[place - 1]
    return (place - 1 + (value - low) / (quantiles[place] - low)) / (len(quantiles) - 1)
