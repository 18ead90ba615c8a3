"""What a batch is answered with: the plan and the versions that are live when it begins, and a precision for each.

    ActiveVersions: a plan, and the models of its arms; immutable, replaced as a whole by a swap
    load, tokens, floors, latencies, the previous choice --choose--> Choice: a precision for each version

The chosen precision is the fastest that is accurate enough, with hysteresis. A precision is accurate enough if the
learner measured it, on holdout feedback, within a floor below the version's best. Of these the best answers, unless
another is faster by a margin on this machine; one that answers already is kept until half of the margin is lost. An
overloaded replica browns out: until half of the load is gone, the floor is lower and the fastest answers, whatever its
margin.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Final, TypeAlias

import msgspec

from model.kinds import KindTensors, tensors_of
from model.packed import PackedEncoder
from model.quantized import QuantizedModel
from model.tokenizer import MAX_TOKENS
from serving.config import PrecisionConfig
from serving.encodings import Health
from serving.refusal import Refusal
from wire.kinds import KINDS, LabelKind
from wire.records import CLASSES, STAND_IN, Arm, LabelSpace, PrecisionEvaluation, RolloutPlan
from wire.tasks import DEFAULT


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The times of batches in each precision: `ms[precision][i]` is that of `num_tokens[i]` tokens, which ascend."""

    num_tokens: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    def knows(self, precisions: Sequence[str]) -> bool:
        return all(precision in self.ms for precision in precisions)

    def ms_of(self, precision: str, num_tokens: int) -> float:
        """Returns the time of a batch of any size: interpolated between two sizes, and in proportion beyond the
        largest.

        >>> table = LatencyTable((16, 64), {"int8": (1.0, 3.0)})
        >>> [table.ms_of("int8", num_tokens) for num_tokens in (1, 40, 128)]
        [1.0, 2.0, 6.0]
        """
        sizes = self.num_tokens
        ms = self.ms[precision]
        above = bisect_right(sizes, num_tokens)
        if above == 0:
            return ms[0]
        if above == len(sizes):
            return ms[-1] * num_tokens / sizes[-1]
        share = (num_tokens - sizes[above - 1]) / (sizes[above] - sizes[above - 1])
        return ms[above - 1] + share * (ms[above] - ms[above - 1])


NOT_MEASURED: Final = LatencyTable((), {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version of the weights, ready to answer. Versions with the same encoder weights share the encoder object.

    `precisions` has at least one entry, the best first; `latency` has their times on this machine, where there is a
    choice. `max_tokens` is the length at which the learner cut texts for it, `encoding` the name of how its encoder
    makes vectors in INT8 ("" where they are of no use to the learner). `refusal` says which of its answers are refused
    (None: none are). `labelled` is what its labels are; `kind` and `tensors`, which say what its logits mean, are found
    by that.
    """

    number: int
    model: QuantizedModel
    precisions: tuple[PrecisionEvaluation, ...]
    num_bytes: int
    max_tokens: int = MAX_TOKENS
    latency: LatencyTable = NOT_MEASURED
    encoding: str = ""
    refusal: Refusal | None = None
    labelled: LabelSpace = CLASSES
    kind: LabelKind = field(init=False, repr=False)
    tensors: KindTensors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kind = KINDS.get(self.labelled.kind)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "tensors", tensors_of(kind))


@dataclass(frozen=True, kw_only=True)
class ActiveVersions:
    """`versions` has every version that an arm of `plan` names, and those that the plan needs besides and that are
    loaded: they answer nothing, but an answer's receipt has their verdicts, too. `number` grows by one with every swap.
    `health` counts how they do, and they answer since `since_ms`. `paired_share` of the events go through the encoders
    of all arms. A lean batch is answered with what its own arms need, and nothing for others. They are of one `task`.
    """

    number: int
    plan: RolloutPlan
    versions: Mapping[int, Version]
    health: Health = field(default_factory=Health)
    paired_share: float = 1.0
    is_lean: bool = False
    since_ms: int = 0
    task: str = DEFAULT

    @property
    def stand_in(self) -> int:
        """The version that answers in place of the stable one (0: the stable one answers)."""
        arm = self.plan.arm(STAND_IN)
        return arm.version if arm else 0

    @cached_property
    def max_tokens(self) -> int:
        """The length at which texts are cut: that of the first arm's version, if all have so many positions."""
        first = self.versions[self.plan.arms[0].version]
        num_positions = (self.versions[number].model.encoder.config.max_sequence for number in self.plan.versions)
        return min(first.max_tokens, *num_positions)

    @cached_property
    def encoders(self) -> frozenset[PackedEncoder]:
        """The encoders of all arms."""
        return frozenset(self.versions[arm.version].model.encoder for arm in self.plan.arms)

    @cached_property
    def cohorts(self) -> dict[int, tuple[Version, ...]]:
        """By the number of each version, those that share its encoder, itself included, by ascending number."""
        by_encoder: dict[int, list[Version]] = {}
        for number in sorted(self.versions):
            version = self.versions[number]
            by_encoder.setdefault(id(version.model.encoder), []).append(version)
        return {number: tuple(by_encoder[id(version.model.encoder)]) for number, version in self.versions.items()}

    def arm_of(self, version: int) -> Arm | None:
        """Returns the arm that `version` answers in; one of its number where it is loaded and has none; else None."""
        if version not in self.versions:
            return None
        own = next((arm for arm in self.plan.arms if arm.version == version), None)
        return own or Arm(name=str(version), version=version, share=0.0)

    def alone(self, arm: Arm) -> "ActiveVersions":
        """Returns the same, where `arm` answers everything."""
        arms = (msgspec.structs.replace(arm, share=1.0),)
        return replace(self, plan=msgspec.structs.replace(self.plan, arms=arms))


Live: TypeAlias = Mapping[str, ActiveVersions]
"""The versions that answer, by task; none before the first weights."""


def number_of(live: Live) -> int:
    """Returns a number that grows by one with every swap of any task; 0 before the first."""
    return sum(each.number for each in live.values())


def versions_of(live: Live) -> dict[tuple[str, int], Version]:
    """Returns every version by its task and its number."""
    found: dict[tuple[str, int], Version] = {}
    for task, active in live.items():
        found |= {(task, number): version for number, version in active.versions.items()}
    return found


def servable(plan: RolloutPlan, loaded: Collection[int]) -> RolloutPlan | None:
    """Returns the part of `plan` that these versions can serve; None where there are none.

    The share of an arm whose version was not taken goes to the stable arm. While the stable version itself is missing,
    a stand-in has its share, in an arm of its own: every entity is answered, and no answer names a version or an arm
    that did not give it.
    """
    if not loaded or not plan.arms:
        return None
    arms = tuple(arm for arm in plan.arms if arm.version in loaded)
    if plan.stable not in loaded:
        share = 1.0 - sum(arm.share for arm in arms)
        arms = (Arm(name=STAND_IN, version=stand_in(plan, loaded), share=share), *arms)
    return plan if arms == plan.arms else msgspec.structs.replace(plan, arms=arms)


def stand_in(plan: RolloutPlan, loaded: Collection[int]) -> int:
    """Returns the latest of these versions; one that is not decided on yet only where there is no other.

    >>> stand_in(RolloutPlan(revision=1, salt="s", arms=(Arm(name="candidate", version=9, share=0.2),)), {7, 8, 9})
    8
    """
    others = set(loaded) - {plan.candidate, plan.newest}
    return max(others or loaded)


def is_older(plan: RolloutPlan, followed: RolloutPlan) -> bool:
    """Whether `plan` was in force before `followed`, and is not a new beginning.

    After a wipe of the store, plans have another salt; after a restore of its backup, lower revisions but later times.
    """
    is_lower = plan.revision < followed.revision
    return is_lower and plan.salt == followed.salt and plan.time_ms <= followed.time_ms


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
    was_overloaded = previous.is_brown_out
    is_brown_out = is_overloaded(load, was_overloaded=was_overloaded, limit=config.brown_out_load) and can_brown_out(
        versions.values(), config
    )
    chosen: dict[tuple[str, int], str] = {}
    for key, version in versions.items():
        names = allowed(version.precisions, config, is_brown_out=is_brown_out)
        if len(names) == 1:
            chosen[key] = names[0]
        elif is_brown_out:
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=0.0, current=None)
        else:
            current = previous.by_version.get(key)
            chosen[key] = preferred(names, version.latency, num_tokens, min_gain=config.min_gain, current=current)
    return Choice(chosen, is_brown_out)


@lru_cache(maxsize=256)
def allowed(
    precisions: tuple[PrecisionEvaluation, ...], config: PrecisionConfig, *, is_brown_out: bool = False
) -> tuple[str, ...]:
    """Returns the precisions that may answer, best first. A fixed mode leaves one: its own where the floor admits it,
    else the best. The result is kept, since every batch asks for each version."""
    if config.mode == AUTO:
        return accurate(precisions, config.overloaded_accuracy_loss if is_brown_out else config.max_accuracy_loss)
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
