"""Every change of the rollout plan, as a pure step from one plan to the next, and how a step is written.

    begin -> follow -> ramp -> promote | withdraw -> follow ...      what versions and labels do
             follow -> add                                           a version that is promoted when it is published
             follow -> replace_candidate                             newer versions have overtaken the candidate
             return_to, move_reference                               the stable version turned bad, or is clearly better
    heal: if a version of the plan is not stored, which no present program causes
    change: compare and swap of a step and the plan in force

What an operator may do is in `rollout/operator.py`. A step returns what is written together: the plan, the decision,
and `current`, the version that the learner goes on from (None: unchanged).
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

import msgspec

from rollout.config import RolloutConfig
from rollout.paired_rule import Ruling
from rollout.publication_rule import PublicationRuling
from wire.errors import PlanMoved
from wire.records import CANDIDATE, NEWEST, STABLE, Action, Arm, Decision, RolloutPlan
from wire.store import Plans, Step

MAX_NUMBER: Final = 1e9
"""Largest number that is written with a decision: JSON has no infinity."""

LASTING_MS: Final = 60_000
"""A version that was stable for so long is one that a rollback returns to."""


class NotPossible(ValueError):
    """The plan does not allow this change; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A plan, with what must be written atomically with it."""

    plan: RolloutPlan
    decision: Decision | None = None
    current: int | None = None


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why a decision is made: the rule that made it, a sentence, and its numbers."""

    rule: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, ruling: Ruling | PublicationRuling) -> "Grounds":
        """Returns the grounds of a ruling, whose numbers are finite, and rounded to four digits."""
        numbers = {name: value for name, value in asdict(ruling.numbers).items() if not math.isnan(value)}
        return cls(
            ruling.rule, ruling.reason, {name: round(min(each, MAX_NUMBER), 4) for name, each in numbers.items()}
        )


def begin(version: int, *, salt: str, now_ms: int) -> PlanChange:
    """Makes the first version ever answer everything; it is the first reference, too."""
    grounds = Grounds("", "the first version")
    plan = RolloutPlan(revision=0, salt=salt, arms=(), reference=version)
    return decided(plan, "promoted", version, grounds, now_ms, arms=arms_of(version))


def follow_current(
    plan: RolloutPlan | None, current: int, config: RolloutConfig, *, salt: str, now_ms: int
) -> PlanChange | None:
    """Makes the current version the first one, or lets the newest arm follow it; returns None where nothing changes
    (or the plan is pinned)."""
    if not current:
        return None
    if plan is None:
        return begin(current, salt=salt, now_ms=now_ms)
    if plan.pinned or current == plan.stable or (current == plan.newest and plan.candidate):
        return None
    return follow(plan, current, config, now_ms=now_ms)


def follow(plan: RolloutPlan, version: int, config: RolloutConfig, *, now_ms: int) -> PlanChange:
    """Makes `version` the newest one, and the candidate where there is none. No decision: its publication is enough."""
    arms = arms_of(plan.stable, plan.arm(CANDIDATE) or begun(version, config), newest(version, config))
    reason = f"version {version} was published"
    after = _next(plan, now_ms, arms=arms, reason=reason, reference=plan.reference or plan.stable)
    return PlanChange(after)


def replace_candidate(plan: RolloutPlan, labels: str, config: RolloutConfig, *, now_ms: int) -> PlanChange:
    """Makes the newest version the candidate, in the place of one that it is better than, by these `labels`."""
    before = plan.candidate
    arms = arms_of(plan.stable, begun(plan.newest, config), plan.arm(NEWEST))
    reason = f"version {plan.newest} is better than the candidate before, version {before}: {labels}"
    return PlanChange(_next(plan, now_ms, arms=arms, reason=reason))


def add(plan: RolloutPlan, version: int, grounds: Grounds, *, moves_reference: bool = False, now_ms: int) -> PlanChange:
    """Makes `version`, a newer one than the candidate, stable. The candidate is not judged on.

    `moves_reference` says that it is better than the reference, or has another encoder: it was not compared with the
    reference then, and no later version could be.
    """
    latest = plan.arm(NEWEST) if plan.newest > version else None
    arms = arms_of(version, latest)
    return _promoted(plan, version, grounds, now_ms, arms=arms, moves_reference=moves_reference)


def ramp(plan: RolloutPlan, share: float, *, now_ms: int) -> PlanChange:
    """Raises the candidate's share of the traffic to `share`."""
    arm = _candidate_arm(plan)
    arms = arms_of(plan.stable, msgspec.structs.replace(arm, share=share), plan.arm(NEWEST))
    grounds = Grounds("", f"the candidate answers {share:.0%}")
    return decided(plan, "ramped", arm.version, grounds, now_ms, arms=arms)


def promote(
    plan: RolloutPlan, grounds: Grounds, config: RolloutConfig, *, moves_reference: bool = False, now_ms: int
) -> PlanChange:
    """Makes the candidate the stable version; the newest version is the next candidate.

    The candidate is the new reference where it was shown to be better than that (`moves_reference`).
    """
    version = _candidate_arm(plan).version
    next_one = begun(plan.newest, config) if plan.newest not in (0, version) else None
    arms = arms_of(version, next_one, plan.arm(NEWEST) if next_one else None)
    return _promoted(plan, version, grounds, now_ms, arms=arms, moves_reference=moves_reference)


def withdraw(
    plan: RolloutPlan, version: int, grounds: Grounds, *, is_imported: bool = False, now_ms: int
) -> PlanChange:
    """Withdraws `version`, the candidate or the newest one: only the stable one answers, and the learner goes on from
    it, since what is newer was learnt on what was withdrawn. An imported one has taught the learner nothing."""
    if is_imported:
        arms = arms_of(plan.stable, plan.arm(NEWEST))
        return decided(plan, "withdrawn", version, grounds, now_ms, arms=arms, approved=0)
    change = decided(plan, "withdrawn", version, grounds, now_ms, arms=arms_of(plan.stable), approved=0)
    return replace(change, current=plan.stable)


def return_to(plan: RolloutPlan, version: int, grounds: Grounds, *, now_ms: int) -> PlanChange:
    """Withdraws the stable version, which turned bad, and lets `version` answer everything and the learner go on from
    it."""
    reference = version if plan.reference == plan.stable else plan.reference
    arms = arms_of(version)
    change = decided(
        plan, "withdrawn", plan.stable, grounds, now_ms, arms=arms, previous=0, reference=reference, approved=0
    )
    return replace(change, current=version)


def move_reference(plan: RolloutPlan, grounds: Grounds, *, now_ms: int) -> PlanChange:
    """Makes the stable version the reference."""
    return decided(plan, "reference", plan.stable, grounds, now_ms, reference=plan.stable)


def heal(plan: RolloutPlan, *, stored: Collection[int], current: int, now_ms: int) -> PlanChange | None:
    """Removes versions that are not stored from the plan; returns None where it names stored versions only.

    A missing stable version is replaced by the current one where that is stored, else by the newest stored one, pinned
    or not. A missing reference is replaced by the stable version.
    """
    missing = set(plan.needed) - {*stored}
    if not missing or not stored:
        return None
    stable = plan.stable
    if stable in missing:
        stable = current if current in stored else max(stored)
    reason = f"{_named(missing)} not stored: version {stable} answers"
    arms = arms_of(stable) if missing & {*plan.versions} else plan.arms
    previous = 0 if plan.previous in {*missing, stable} else plan.previous
    reference = stable if plan.reference in missing else plan.reference
    if stable == plan.stable:
        return PlanChange(_next(plan, now_ms, arms=arms, previous=previous, reference=reference, reason=reason))
    grounds = Grounds("", reason)
    return decided(plan, "promoted", stable, grounds, now_ms, arms=arms, previous=previous, reference=reference)


UNPAIRED = "unpaired"
"""The rule for candidates with another encoder, in decisions."""


def decided(
    plan: RolloutPlan, action: Action, version: int, grounds: Grounds, now_ms: int, **changes: Any
) -> PlanChange:
    """Returns the plan with these changes, and the decision about `version` that they come from."""
    after = _next(plan, now_ms, reason=grounds.reason, **changes)
    decision = Decision(
        version=version,
        action=action,
        time_ms=now_ms,
        rule=grounds.rule,
        reason=grounds.reason,
        numbers=dict(grounds.numbers),
        revision=after.revision,
        stable=after.stable,
        reference=after.reference,
    )
    return PlanChange(after, decision)


def previous_of(plan: RolloutPlan, now_ms: int) -> int:
    """Returns the version to which a rollback returns when another version becomes stable now: the last one that was
    stable for LASTING_MS.

    While classes are new, several versions become stable in a second, and the one before would be hardly another.
    """
    has_lasted = now_ms - plan.stable_since_ms >= LASTING_MS
    return plan.stable if has_lasted or not plan.previous else plan.previous


def arms_of(stable: int, *others: Arm | None) -> tuple[Arm, ...]:
    """Returns the arms of a plan: the stable version has what the others, candidate before newest, leave."""
    arms = [arm for arm in others if arm is not None]
    return (Arm(name=STABLE, version=stable, share=1.0 - sum(arm.share for arm in arms)), *arms)


def begun(version: int, config: RolloutConfig) -> Arm:
    """Returns the arm of a candidate whose ramp begins."""
    return Arm(name=CANDIDATE, version=version, share=config.ramp[0])


def newest(version: int, config: RolloutConfig) -> Arm:
    return Arm(name=NEWEST, version=version, share=config.newest_share)


def _promoted(
    plan: RolloutPlan, version: int, grounds: Grounds, now_ms: int, *, arms: tuple[Arm, ...], moves_reference: bool
) -> PlanChange:
    reference = version if moves_reference else plan.reference
    changes = {"arms": arms, "previous": previous_of(plan, now_ms), "reference": reference, "approved": 0}
    return decided(plan, "promoted", version, grounds, now_ms, **changes)


def _candidate_arm(plan: RolloutPlan) -> Arm:
    arm = plan.arm(CANDIDATE)
    if arm is None:
        raise NotPossible("there is no candidate; name a version (`lifelong versions` lists them)")
    return arm


def _named(versions: Collection[int]) -> str:
    """Returns `version 4 is`, or `versions 4, 7 are`."""
    numbers = ", ".join(map(str, sorted(versions)))
    return f"version {numbers} is" if len(versions) == 1 else f"versions {numbers} are"


def _next(plan: RolloutPlan, now_ms: int, **changes: Any) -> RolloutPlan:
    after = msgspec.structs.replace(plan, revision=plan.revision + 1, time_ms=now_ms, **changes)
    return after if after.stable == plan.stable else msgspec.structs.replace(after, stable_since_ms=now_ms)


PlanStep: TypeAlias = Callable[[RolloutPlan | None], PlanChange | None]

MAX_TRIES = 20
"""The writers are a controller and a few operators: one that loses this often is not in a race but faulty."""


def change(plans: Plans, step: PlanStep, *, asked: Callable[[PlanChange], Step] | None = None) -> RolloutPlan | None:
    """Writes the result of `step` for the plan in force (None: there is none yet); returns the new plan, or None for no
    change.

    If an operator has asked for it, `asked` returns what the log of commands says of it. Raises PlanMoved where others
    write all the time.
    """
    for _ in range(MAX_TRIES):
        proposed = step(plans.read())
        if proposed is None:
            return None
        try:
            plans.write(
                proposed.plan, proposed.decision, proposed.current, step=None if asked is None else asked(proposed)
            )
        except PlanMoved:
            continue
        return proposed.plan
    raise PlanMoved(f"the plan was changed by others {MAX_TRIES} times in a row")
