"""Chooses the precision of a batch: the fastest that is accurate enough, with hysteresis.

    load, tokens, floors, latencies, the previous choice --choose--> Choice: a precision for each version

A precision is accurate enough when the learner measured it, on holdout feedback, within a floor below the version's
best. Of these the best answers, unless another is faster by a margin on this machine; one that answers already is kept
until half of the margin is lost. An overloaded replica browns out: until half of the load is gone, the floor is lower
and the fastest answers, whatever its margin.

Rejected: a mode that may go below the floor (weights that lost more than that should not be published in that
precision).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serving.engine_config import PrecisionConfig
from serving.weights.active import LatencyTable, Version
from wire.records import PrecisionEvaluation

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision of each version's rows, by its task and its number. The next choice depends on it."""

    by_version: Mapping[tuple[str, int], str]
    is_brown_out: bool = False

    def of_task(self, task: str) -> dict[int, str]:
        """Returns the precision of each version of a task, by its number."""
        return {number: precision for (each, number), precision in self.by_version.items() if each == task}


NO_CHOICE: Final = Choice({})


def choose(
    versions: Mapping[tuple[str, int], Version],
    *,
    num_tokens: int,
    load: float,
    previous: Choice,
    config: PrecisionConfig,
) -> Choice:
    """Chooses for a batch of `num_tokens`. `load` is how full the queue is without that batch, as a share of its
    bound."""
    is_brown_out = can_brown_out(versions.values(), config) and is_overloaded(
        load, was_overloaded=previous.is_brown_out, limit=config.brown_out_load
    )
    chosen: dict[tuple[str, int], str] = {}
    for key, version in versions.items():
        names = allowed(version.precisions, config, is_brown_out=is_brown_out)
        if is_brown_out:
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=0.0, current=None)
        else:
            current = previous.by_version.get(key)
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=config.min_gain, current=current)
    return Choice(chosen, is_brown_out)


def allowed(
    precisions: Sequence[PrecisionEvaluation], config: PrecisionConfig, *, is_brown_out: bool = False
) -> tuple[str, ...]:
    """Returns the precisions that may answer, best first. A fixed mode leaves one: its own where the floor admits it,
    else the best."""
    if config.mode == AUTO:
        return accurate(precisions, config.brown_out_accuracy_loss if is_brown_out else config.max_accuracy_loss)
    names = accurate(precisions, config.max_accuracy_loss)
    return (config.mode,) if config.mode in names else names[:1]


def accurate(precisions: Sequence[PrecisionEvaluation], max_loss: float) -> tuple[str, ...]:
    """Returns the precisions within the floor. While nothing was measured, the best alone.

    >>> measured = [PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88)]
    >>> accurate(measured, 0.005), accurate(measured, 0.03)
    (('int8',), ('int8', 'int4'))
    """
    best, *others = precisions
    floor = best.accuracy - max_loss
    return (best.name, *(other.name for other in others if best.accuracy and other.accuracy >= floor))


def preferred(
    names: Sequence[str], latency: LatencyTable, num_tokens: int, *, min_gain: float, current: str | None
) -> str:
    """Returns the fastest where it saves the share `min_gain` of the best's time, else the best, which is the first.

    Half of `min_gain` is enough for the fastest where it is `current`. Without latencies, the best is returned.
    """
    best = names[0]
    if len(names) == 1 or not latency.knows(names):
        return best
    fastest = min(names, key=lambda name: latency.ms_of(name, num_tokens))
    gain = 1 - latency.ms_of(fastest, num_tokens) / latency.ms_of(best, num_tokens)
    required = min_gain / 2 if fastest == current else min_gain
    return fastest if gain >= required else best


def is_overloaded(load: float, *, was_overloaded: bool, limit: float) -> bool:
    """Whether the load is above `limit`, or, with hysteresis, above half of it.

    >>> [is_overloaded(load, was_overloaded=True, limit=0.5) for load in (0.25, 0.26)]
    [False, True]
    >>> is_overloaded(0.5, was_overloaded=False, limit=0.5)
    False
    """
    threshold = limit / 2 if was_overloaded else limit
    return load > threshold


def can_brown_out(versions: Iterable[Version], config: PrecisionConfig) -> bool:
    """Whether any version has a choice of precisions under the lower floor."""
    return any(len(allowed(version.precisions, config, is_brown_out=True)) > 1 for version in versions)
