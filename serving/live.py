"""What a replica answers with at one moment: a plan, and the models of its arms. Replaced as a whole, never changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from model.quantized import QuantizedModel
from serving.latency import NOT_MEASURED, LatencyTable
from wire.records import PrecisionEvaluation, RolloutPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version of the weights, ready to answer. Versions with the same encoder weights share the encoder object.

    `precisions` has at least one, the best first; `latency` says how fast they are here, where there is a choice.
    """

    number: int
    model: QuantizedModel
    precisions: tuple[PrecisionEvaluation, ...]
    num_bytes: int
    latency: LatencyTable = NOT_MEASURED


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """`versions` has every version that an arm of `plan` names. `number` grows by one with every flip."""

    number: int
    plan: RolloutPlan
    versions: Mapping[int, Version]


def servable(plan: RolloutPlan, loaded: Collection[int]) -> RolloutPlan | None:
    """What can be served of `plan` with these versions; None where the stable version is not among them.

    The share of an arm whose version was not taken goes to the stable arm: its entities are answered, and no answer
    claims a version that did not give it.
    """
    if plan.stable not in loaded:
        return None
    arms = tuple(arm for arm in plan.arms if arm.version in loaded)
    return plan if arms == plan.arms else msgspec.structs.replace(plan, arms=arms)
