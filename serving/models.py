"""The live versions of a task, and the choice of a precision for each version and batch.

    ActiveVersions: a plan, and the models of its arms; immutable, replaced as a whole by a swap
    load, tokens, accuracies, latencies, previous choice --choose_precisions--> PrecisionChoice, for each version

A precision is accurate enough if it loses at most a tolerated share of accuracy, compared with the version's best
precision. The learner has measured these accuracies on the holdout. Among the precisions that are accurate enough, the
most accurate one answers, unless the fastest one saves at least a minimal share of the time on this machine. There is
hysteresis: if the fastest precision answers already, it needs to save only half of that share. An overloaded replica
browns out until its load has halved: the tolerated loss is larger, and the fastest precision answers even if it saves
little.
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
    """Measured batch times: `ms[precision][i]` is the time in milliseconds for `num_tokens[i]` tokens, in ascending
    order."""

    num_tokens: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    def knows(self, precisions: Sequence[str]) -> bool:
        return all(precision in self.ms for precision in precisions)

    def batch_ms(self, precision: str, num_tokens: int) -> float:
        """Returns the time of a batch of any size, in milliseconds.

        It is interpolated between two measured sizes. Beyond the largest size, it grows in proportion to the size.

        >>> table = LatencyTable((16, 64), {"int8": (1.0, 3.0)})
        >>> [table.batch_ms("int8", num_tokens) for num_tokens in (1, 40, 128)]
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

    - `precisions`: the precisions that it can use, the most accurate first
    - `latency`: the batch times of these precisions on this machine, if there are several
    - `max_tokens`: the length limit in tokens with which the learner trained the version
    - `encoding`: names the function from text to vector in INT8; "" if the learner cannot use the vectors
    - `refusal`: decides which answers are refused; None if no answers are refused
    - `labelled`: the kind of the labels, and its parameters
    - `kind`, `tensors`: the implementation of that kind, which interprets the logits
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
    """The plan of one task, and the loaded versions that serve it.

    - `number`: the number of the swap; it increases by one with every swap
    - `versions`: every version that an arm of `plan` names, and the loaded versions that the plan names outside its
      arms. The latter answer no event, but receipts contain their predictions.
    - `health`: counts answers, failures and slow forward passes of the versions
    - `since_ms`: the time of the swap
    - `paired_share`: share of the events that go through the encoders of all arms
    - `sheds_extras`: whether a batch skips all work that its own answers do not need (see `serving/predict.py`)
    """

    number: int
    plan: RolloutPlan
    versions: Mapping[int, Version]
    health: Health = field(default_factory=Health)
    paired_share: float = 1.0
    sheds_extras: bool = False
    since_ms: int = 0
    task: str = DEFAULT

    @property
    def stand_in(self) -> int:
        """The version that answers in place of the stable version; 0 if the stable version answers."""
        arm = self.plan.arm(STAND_IN)
        return arm.version if arm else 0

    @cached_property
    def max_tokens(self) -> int:
        """The length limit of texts: the first arm's limit, but at most the positions of each version's encoder."""
        first = self.versions[self.plan.arms[0].version]
        num_positions = (self.versions[number].model.encoder.config.max_sequence for number in self.plan.versions)
        return min(first.max_tokens, *num_positions)

    @cached_property
    def encoders(self) -> frozenset[PackedEncoder]:
        """The encoders of all arms."""
        return frozenset(self.versions[arm.version].model.encoder for arm in self.plan.arms)

    @cached_property
    def cohorts(self) -> dict[int, tuple[Version, ...]]:
        """Version number -> all versions with the same encoder, including that version, by ascending number."""
        by_encoder: dict[int, list[Version]] = {}
        for number in sorted(self.versions):
            version = self.versions[number]
            by_encoder.setdefault(id(version.model.encoder), []).append(version)
        return {number: tuple(by_encoder[id(version.model.encoder)]) for number, version in self.versions.items()}

    def arm_for_version(self, version: int) -> Arm | None:
        """Returns the arm of `version`; None if the version is not loaded.

        If the plan gives a loaded version no arm, the returned arm has the version's number as its name.
        """
        if version not in self.versions:
            return None
        own = next((arm for arm in self.plan.arms if arm.version == version), None)
        return own or Arm(name=str(version), version=version, share=0.0)

    def with_only(self, arm: Arm) -> "ActiveVersions":
        """Returns a copy in which `arm` answers every event."""
        arms = (msgspec.structs.replace(arm, share=1.0),)
        return replace(self, plan=msgspec.structs.replace(self.plan, arms=arms))


LiveVersions: TypeAlias = Mapping[str, ActiveVersions]
"""Task -> its active versions; empty before the first weights."""


def count_swaps(live: LiveVersions) -> int:
    """Returns the number of swaps of all tasks so far; 0 before the first weights."""
    return sum(active.number for active in live.values())


def all_versions(live: LiveVersions) -> dict[tuple[str, int], Version]:
    """Returns every version by its task and its number."""
    by_task: dict[tuple[str, int], Version] = {}
    for task, active in live.items():
        by_task |= {(task, number): version for number, version in active.versions.items()}
    return by_task


def servable_part(plan: RolloutPlan, loaded: Collection[int]) -> RolloutPlan | None:
    """Returns the part of `plan` that the `loaded` versions can serve; None if no version is loaded.

    If the version of an arm is not loaded, the stable arm gets its share. If the stable version itself is not loaded,
    another version, the stand-in, gets the stable arm's share, in an arm of its own. So every entity is answered, and
    every answer names the version and the arm that gave it.
    """
    if not loaded or not plan.arms:
        return None
    arms = tuple(arm for arm in plan.arms if arm.version in loaded)
    if plan.stable not in loaded:
        # The stand-in gets the share that the other arms leave.
        share = 1.0 - sum(arm.share for arm in arms)
        arms = (Arm(name=STAND_IN, version=choose_stand_in(plan, loaded), share=share), *arms)
    return plan if arms == plan.arms else msgspec.structs.replace(plan, arms=arms)


def choose_stand_in(plan: RolloutPlan, loaded: Collection[int]) -> int:
    """Returns the loaded version that answers instead of the stable version: the latest one that is not on trial.

    If all loaded versions are on trial, it is the latest of them.

    >>> plan = RolloutPlan(revision=1, salt="s", arms=(Arm(name="candidate", version=9, share=0.2),))
    >>> choose_stand_in(plan, {7, 8, 9})
    8
    """
    others = set(loaded) - {plan.candidate, plan.newest}
    return max(others or loaded)


def is_older(plan: RolloutPlan, followed: RolloutPlan) -> bool:
    """Whether `plan` is an earlier plan of the same store than `followed`.

    A lower revision is not always an older plan. After the store was wiped, plans have another salt. After a backup was
    restored, plans have lower revisions but later times.
    """
    is_lower = plan.revision < followed.revision
    return is_lower and plan.salt == followed.salt and plan.time_ms <= followed.time_ms


AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """The precision of each version, by its task and its number. The next choice depends on it (hysteresis)."""

    by_version: Mapping[tuple[str, int], str]
    is_brown_out: bool = False

    def of_task(self, task: str) -> dict[int, str]:
        """Returns the precision of each version of a task, by its number."""
        return {number: precision for (owner, number), precision in self.by_version.items() if owner == task}


NO_CHOICE: Final = PrecisionChoice({})


def choose_precisions(
    versions: Mapping[tuple[str, int], Version],
    *,
    num_tokens: int,
    load: float,
    previous: PrecisionChoice,
    config: PrecisionConfig,
) -> PrecisionChoice:
    """Returns the precisions for a batch of `num_tokens`.

    `load` is how full the queue is without this batch, in [0, 1]. `previous` is the choice for the previous batch.
    """
    was_overloaded = previous.is_brown_out
    is_brown_out = is_overloaded(load, was_overloaded=was_overloaded, limit=config.brown_out_load) and can_brown_out(
        versions.values(), config
    )
    chosen: dict[tuple[str, int], str] = {}
    for key, version in versions.items():
        names = allowed_precisions(version.precisions, config, is_brown_out=is_brown_out)
        if len(names) == 1:
            chosen[key] = names[0]
        elif is_brown_out:
            # The fastest precision, however little it saves.
            chosen[key] = pick_precision(names, version.latency, num_tokens, min_gain=0.0, current=None)
        else:
            current = previous.by_version.get(key)
            chosen[key] = pick_precision(names, version.latency, num_tokens, min_gain=config.min_gain, current=current)
    return PrecisionChoice(chosen, is_brown_out)


@lru_cache(maxsize=256)
def allowed_precisions(
    precisions: tuple[PrecisionEvaluation, ...], config: PrecisionConfig, *, is_brown_out: bool = False
) -> tuple[str, ...]:
    """Returns the names of the precisions that may answer, the most accurate first.

    If `config.mode` is a precision, only that precision may answer if it is accurate enough, else only the most
    accurate one. The result is cached, because every batch needs it for each version.
    """
    if config.mode == AUTO:
        max_loss = config.overloaded_accuracy_loss if is_brown_out else config.max_accuracy_loss
        return accurate_enough(precisions, max_loss)
    names = accurate_enough(precisions, config.max_accuracy_loss)
    return (config.mode,) if config.mode in names else names[:1]


def accurate_enough(precisions: Sequence[PrecisionEvaluation], max_loss: float) -> tuple[str, ...]:
    """Returns the names of the precisions that lose at most `max_loss` of accuracy, compared with the first, the best.

    If no accuracy was measured, only the best is returned.

    >>> measured = [PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88)]
    >>> accurate_enough(measured, 0.005), accurate_enough(measured, 0.03)
    (('int8',), ('int8', 'int4'))
    """
    best, *others = precisions
    floor = best.accuracy - max_loss
    return (best.name, *(other.name for other in others if best.accuracy and other.accuracy >= floor))


def pick_precision(
    names: Sequence[str], latency: LatencyTable, num_tokens: int, *, min_gain: float, current: str | None
) -> str:
    """Returns the fastest precision if it saves enough time, else the most accurate one, which is `names[0]`.

    It saves enough if it saves at least the share `min_gain`, in [0, 1], of the time of `names[0]`. If it is already
    the `current` precision, half of `min_gain` is enough. If the latencies are unknown, the result is `names[0]`.
    """
    best = names[0]
    if len(names) == 1 or not latency.knows(names):
        return best
    fastest = min(names, key=lambda name: latency.batch_ms(name, num_tokens))
    gain = 1 - latency.batch_ms(fastest, num_tokens) / latency.batch_ms(best, num_tokens)
    required = min_gain / 2 if fastest == current else min_gain
    return fastest if gain >= required else best


def is_overloaded(load: float, *, was_overloaded: bool, limit: float) -> bool:
    """Whether the load is above `limit`; if the replica was overloaded before, whether the load is above half of
    `limit`.

    >>> [is_overloaded(load, was_overloaded=True, limit=0.5) for load in (0.25, 0.26)]
    [False, True]
    >>> is_overloaded(0.5, was_overloaded=False, limit=0.5)
    False
    """
    threshold = limit / 2 if was_overloaded else limit
    return load > threshold


def can_brown_out(versions: Iterable[Version], config: PrecisionConfig) -> bool:
    """Whether any version has a choice of precisions under the larger tolerated loss of a brown-out."""
    return any(len(allowed_precisions(version.precisions, config, is_brown_out=True)) > 1 for version in versions)
