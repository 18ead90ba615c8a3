"""What is reported of labels that are no single classes, beside the share of right answers: it decides nothing.

    sets --> micro-F1, 2 TP / (named + labelled) over all holdout samples        scores --> mean absolute error

The gate and the rollout decide by right answers, of which a set or a score is one with the probability of its F1 or its
error (`wire.agreement`): a count of paired events has exact tests and bounds. Micro-F1 is a quotient of sums over
events, which has none without a resampling for each decision; and 1 less the absolute error is what they decide by.
"""

from typing import NamedTuple, TypeAlias

from msgspec import UNSET, UnsetType

from learner.quality.comparison import ScoredHoldout

Pair: TypeAlias = tuple[float, float] | UnsetType


class KindFigures(NamedTuple):
    """Each by a version and by its parent, or twice by the version; UNSET where labels are of another kind.

    `absolute_error` is in the unit of the scores.
    """

    micro_f1: Pair = UNSET
    absolute_error: Pair = UNSET

    @classmethod
    def of(cls, new: ScoredHoldout, parent: ScoredHoldout | None, *, width: float) -> "KindFigures":
        """Returns those of the holdout samples. `width` is that of the range of scores."""
        one, other = (_micro_f1(each) for each in (new, parent or new))
        if one is not None and other is not None:
            return cls(micro_f1=(one, other))
        one, other = (_absolute_error(each) for each in (new, parent or new))
        if one is not None and other is not None:
            return cls(absolute_error=(one * width, other * width))
        return cls()


def _micro_f1(scored: ScoredHoldout) -> float | None:
    sets = scored.targets.sets
    return sets.micro_f1(scored.logits_NC > 0) if sets else None


def _absolute_error(scored: ScoredHoldout) -> float | None:
    values = scored.targets.values
    return float(values.errors(scored.logits_NC).mean()) if values else None
