"""Every change of the rollout plan, as a pure step from one plan to the next.

    begin -> follow -> promote -> follow -> withdraw ...        an operator: promote, rollback, pin, unpin
    heal: where a version of the plan is not stored, which no present program causes

A step returns what is written together: the plan, a line of the history, and `current`, the version that the learner
goes on from (None: unchanged). `rollout/change.py` writes it.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from wire.records import CANDIDATE, STABLE, Arm, RolloutPlan, VersionEntry


class NotPossible(ValueError):
    """The plan does not allow this change; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A plan, with what must be written atomically with it."""

    plan: RolloutPlan
    entry: VersionEntry | None = None
    current: int | None = None


def begin(version: int, *, salt: str, now_ms: int) -> PlanChange:
    """Makes the first version ever answer everything."""
    reason = "the first version"
    plan = RolloutPlan(revision=1, salt=salt, arms=_alone(version), reason=reason, time_ms=now_ms)
    return PlanChange(plan, VersionEntry(version=version, action="promoted", time_ms=now_ms, detail=reason))


def follow_current(
    plan: RolloutPlan | None, current: int, *, share: float, salt: str, now_ms: int
) -> PlanChange | None:
    """Makes the current version the first one, or the candidate; returns None where nothing changes (or the plan is
    pinned)."""
    if not current:
        return None
    if plan is None:
        return begin(current, salt=salt, now_ms=now_ms)
    if plan.pinned or current in plan.versions:
        return None
    return follow(plan, current, share=share, now_ms=now_ms)


def follow(plan: RolloutPlan, version: int, *, share: float, now_ms: int) -> PlanChange:
    """Makes `version` the candidate. Adds no line of history: its publication has one."""
    stable = Arm(name=STABLE, version=plan.stable, share=1.0 - share)
    arms = (stable, Arm(name=CANDIDATE, version=version, share=share))
    return PlanChange(_next(plan, arms=arms, reason=f"version {version} was published", time_ms=now_ms))


def heal(plan: RolloutPlan, *, stored: Collection[int], current: int, now_ms: int) -> PlanChange | None:
    """Removes versions that are not stored from the plan; returns None where it names stored versions only.

    A missing stable version is replaced by the current one where that is stored, else by the newest stored one, pinned
    or not.
    """
    missing = set(plan.needed) - {*stored}
    if not missing or not stored:
        return None
    stable = plan.stable
    if stable in missing:
        stable = current if current in stored else max(stored)
    reason = f"{_named(missing)} not stored: version {stable} answers"
    arms = _alone(stable) if missing & {plan.stable, plan.candidate} else plan.arms
    previous = 0 if plan.previous in {*missing, stable} else plan.previous
    after = _next(plan, arms=arms, previous=previous, reason=reason, time_ms=now_ms)
    entry = VersionEntry(version=stable, action="promoted", time_ms=now_ms, detail=reason)
    return PlanChange(after, entry if stable != plan.stable else None)


def without_missing(change: PlanChange, stored: Collection[int]) -> PlanChange:
    """Returns the change, without the version to roll back to where that is not stored."""
    if change.plan.previous in {0, *stored}:
        return change
    return replace(change, plan=msgspec.structs.replace(change.plan, previous=0))


def promote(plan: RolloutPlan, version: int, *, reason: str, now_ms: int) -> PlanChange:
    """Makes `version` the stable one. A newer candidate stays the candidate."""
    if version == plan.stable:
        raise NotPossible(f"version {version} is the stable one already")
    newer = plan.arm(CANDIDATE)
    if newer is not None and newer.version != version:
        arms: tuple[Arm, ...] = (Arm(name=STABLE, version=version, share=1.0 - newer.share), newer)
    else:
        arms = _alone(version)
    entry = VersionEntry(version=version, action="promoted", time_ms=now_ms, detail=reason)
    return PlanChange(_next(plan, arms=arms, previous=plan.stable, reason=reason, time_ms=now_ms), entry)


def withdraw(plan: RolloutPlan, version: int, *, reason: str, now_ms: int) -> PlanChange:
    """Lets only the stable version answer, and the learner go on from it."""
    entry = VersionEntry(version=version, action="withdrawn", time_ms=now_ms, detail=reason)
    after = _next(plan, arms=_alone(plan.stable), reason=reason, time_ms=now_ms)
    return PlanChange(after, entry, current=plan.stable)


def rollback(plan: RolloutPlan, *, reason: str, now_ms: int) -> PlanChange:
    """Lets the stable version before this one answer everything, and the learner go on from it.

    Replicas still hold it, so nothing is loaded. A second rollback is not possible: earlier versions may be collected.
    """
    if not plan.previous:
        raise NotPossible("there is no earlier stable version; `lifelong versions` lists what can be promoted")
    detail = f"from version {plan.stable}: {reason}"
    entry = VersionEntry(version=plan.previous, action="rolled_back", time_ms=now_ms, detail=detail)
    after = _next(plan, arms=_alone(plan.previous), previous=0, reason=f"rolled back {detail}", time_ms=now_ms)
    return PlanChange(after, entry, current=plan.previous)


def pin(plan: RolloutPlan, version: int, *, now_ms: int) -> PlanChange:
    """Lets `version` answer everything until `unpin`; versions published meanwhile wait."""
    reason = f"pinned to version {version}"
    previous = plan.previous if version == plan.stable else plan.stable
    after = _next(plan, arms=_alone(version), previous=previous, pinned=True, reason=reason, time_ms=now_ms)
    return PlanChange(after, VersionEntry(version=version, action="pinned", time_ms=now_ms, detail=reason))


def unpin(plan: RolloutPlan, *, now_ms: int) -> PlanChange:
    """Lets candidates follow and be judged again."""
    if not plan.pinned:
        raise NotPossible("the rollout is not pinned")
    return PlanChange(_next(plan, pinned=False, reason="unpinned", time_ms=now_ms))


def _named(versions: Collection[int]) -> str:
    """Returns `version 4 is`, or `versions 4, 7 are`."""
    numbers = ", ".join(map(str, sorted(versions)))
    return f"version {numbers} is" if len(versions) == 1 else f"versions {numbers} are"


def _alone(version: int) -> tuple[Arm, ...]:
    return (Arm(name=STABLE, version=version, share=1.0),)


def _next(plan: RolloutPlan, **changes: Any) -> RolloutPlan:
    return msgspec.structs.replace(plan, revision=plan.revision + 1, **changes)
