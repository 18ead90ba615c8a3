"""Which precision a batch runs under: the fastest that is accurate enough, and no change without a reason. Pure.

    load, tokens, floors, latencies, the choice before --choose--> Choice: a precision for each version

A precision is accurate enough when the learner measured it, on held-back feedback, within a floor below the version's
best. Of these the best answers, unless another is faster by a margin here; one that answers already is kept until half
of the margin is gone. An overloaded replica browns out: until half of the load is gone, the floor is lower and the
fastest answers, whatever its margin.

Rejected: a cleverer model of load (the queue's length says all that the batch can change), and a mode that may go below
the floor (weights that lost more than that should not be published in that precision).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serving.config import PrecisionConfig
from serving.weights.active import Version
from serving.weights.latency import LatencyTable
from wire.records import PrecisionEvaluation

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rows of each version run under, by its number. The next batch is chosen with it in mind."""

    by_version: Mapping[int, str]
    is_brown_out: bool = False


NO_CHOICE: Final = Choice({})


def choose(
    versions: Mapping[int, Version], *, num_tokens: int, load: float, before: Choice, config: PrecisionConfig
) -> Choice:
    """For a batch of `num_tokens`; `load` is the share of its bound that the queue has left to do after it."""
    is_brown_out = can_brown_out(versions, config) and is_overloaded(
        load, was=before.is_brown_out, limit=config.brown_out_load
    )
    found: dict[int, str] = {}
    for number, version in versions.items():
        names = allowed(version.precisions, config, is_brown_out=is_brown_out)
        gain, kept = (0.0, None) if is_brown_out else (config.min_gain, before.by_version.get(number))
        found[number] = preferred(names, version.latency, num_tokens, min_gain=gain, kept=kept)
    return Choice(found, is_brown_out)


def allowed(
    precisions: Sequence[PrecisionEvaluation], config: PrecisionConfig, *, is_brown_out: bool = False
) -> tuple[str, ...]:
    """What may answer, the best first. A fixed mode leaves one: its own where the floor admits it, else the best."""
    if config.mode == AUTO:
        return accurate(precisions, config.brown_out_accuracy_loss if is_brown_out else config.max_accuracy_loss)
    names = accurate(precisions, config.max_accuracy_loss)
    return (config.mode,) if config.mode in names else names[:1]


def accurate(precisions: Sequence[PrecisionEvaluation], max_loss: float) -> tuple[str, ...]:
    """The precisions within the floor. While nothing was measured, the best alone.

    >>> measured = [PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88)]
    >>> accurate(measured, 0.005), accurate(measured, 0.03)
    (('int8',), ('int8', 'int4'))
    """
    best, *others = precisions
    floor = best.accuracy - max_loss
    return (best.name, *(each.name for each in others if best.accuracy and each.accuracy >= floor))


def preferred(
    names: Sequence[str], latency: LatencyTable, num_tokens: int, *, min_gain: float, kept: str | None
) -> str:
    """The fastest where it saves the share `min_gain` of the best's time, or half of that if it is `kept`; else the
    best, which is the first. Without latencies, the best."""
    best = names[0]
    if len(names) == 1 or not latency.knows(names):
        return best
    fastest = min(names, key=lambda name: latency.ms_of(name, num_tokens))
    gain = 1 - latency.ms_of(fastest, num_tokens) / latency.ms_of(best, num_tokens)
    return fastest if gain >= (min_gain / 2 if fastest == kept else min_gain) else best


def is_overloaded(load: float, *, was: bool, limit: float) -> bool:
    """Beyond `limit`, and until half of it is gone.

    >>> [is_overloaded(load, was=True, limit=0.5) for load in (0.25, 0.26)], is_overloaded(0.5, was=False, limit=0.5)
    ([False, True], False)
    """
    return load > (limit / 2 if was else limit)


def can_brown_out(versions: Mapping[int, Version], config: PrecisionConfig) -> bool:
    """Whether there is anything to choose from under the lower floor."""
    return any(len(allowed(version.precisions, config, is_brown_out=True)) > 1 for version in versions.values())
