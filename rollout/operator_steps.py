"""What an operator may do to the plan, as pure steps: start, promote, roll back, approve, pin, pause.

An operator's choice of the stable version is a verdict of its own: the reference moves with it.
"""

from collections.abc import Collection
from dataclasses import replace

import msgspec

from rollout.config import RolloutConfig
from rollout.plans import Grounds, NotPossible, PlanChange, arms_of, begun, decided
from wire.records import CANDIDATE, NEWEST, RolloutPlan

OPERATOR = "operator"
"""The rule of an operator's decisions."""


def start(plan: RolloutPlan, version: int, config: RolloutConfig, *, by: str, now_ms: int) -> PlanChange:
    """Makes `version` the candidate, in the place of the one there is. Its ramp begins."""
    if plan.pinned:
        raise NotPossible("the rollout is pinned; `lifelong rollout unpin` lets candidates be judged")
    if version in (plan.stable, plan.candidate):
        raise NotPossible(f"version {version} is the {'stable one' if version == plan.stable else 'candidate'} already")
    arms = arms_of(plan.stable, begun(version, config), plan.arm(NEWEST))
    return decided(plan, "started", version, Grounds(OPERATOR, by), now_ms, arms=arms, approved=0)


def promote(plan: RolloutPlan, version: int, config: RolloutConfig, *, by: str, now_ms: int) -> PlanChange:
    """Makes `version` the stable one. A newer candidate stays the candidate, else the newest version becomes it."""
    if version == plan.stable:
        raise NotPossible(f"version {version} is the stable one already")
    candidate = plan.arm(CANDIDATE) if plan.candidate > version else None
    latest = plan.arm(NEWEST) if plan.newest > version else None
    if candidate is None and latest is not None:
        candidate = begun(latest.version, config)
    changes = {"arms": arms_of(version, candidate, latest), "previous": plan.stable, "reference": version}
    return decided(plan, "promoted", version, Grounds(OPERATOR, by), now_ms, approved=0, **changes)


def rollback(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Lets the stable version before this one answer everything, and the learner go on from it.

    Replicas still hold it, so nothing is loaded. A second rollback is not possible: earlier versions may be collected.
    """
    if not plan.previous:
        raise NotPossible("there is no earlier stable version; `lifelong versions` lists what can be promoted")
    grounds = Grounds(OPERATOR, f"rolled back from version {plan.stable}: {by}")
    changes = {"arms": arms_of(plan.previous), "previous": 0, "reference": plan.previous}
    change = decided(plan, "rolled_back", plan.previous, grounds, now_ms, approved=0, **changes)
    return replace(change, current=plan.previous)


def approve(plan: RolloutPlan, version: int, *, by: str, now_ms: int) -> PlanChange:
    """Allows `version`, the candidate, to become stable as soon as the evidence is for it."""
    if version != plan.candidate:
        raise NotPossible(f"version {version} is not the candidate; `lifelong rollout status` names it")
    return decided(plan, "approved", version, Grounds(OPERATOR, by), now_ms, approved=version)


def pin(plan: RolloutPlan, version: int, *, by: str, now_ms: int) -> PlanChange:
    """Lets `version` answer everything until `unpin`; versions published meanwhile wait."""
    grounds = Grounds(OPERATOR, f"pinned to version {version}: {by}")
    previous = plan.previous if version == plan.stable else plan.stable
    changes = {"arms": arms_of(version), "previous": previous, "reference": version}
    return decided(plan, "pinned", version, grounds, now_ms, pinned=True, approved=0, **changes)


def unpin(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Lets versions follow and be judged again."""
    if not plan.pinned:
        raise NotPossible("the rollout is not pinned")
    return decided(plan, "unpinned", plan.stable, Grounds(OPERATOR, f"unpinned: {by}"), now_ms, pinned=False)


def pause(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Stops ramps and promotions until `resume`; what is bad is withdrawn, and the newest arm follows the learner."""
    if plan.paused:
        raise NotPossible("the rollout is paused already")
    return decided(plan, "paused", plan.stable, Grounds(OPERATOR, f"paused: {by}"), now_ms, paused=True)


def resume(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Lets the ramp of the candidate, and promotions, go on."""
    if not plan.paused:
        raise NotPossible("the rollout is not paused")
    return decided(plan, "resumed", plan.stable, Grounds(OPERATOR, f"resumed: {by}"), now_ms, paused=False)


def without_missing(change: PlanChange, stored: Collection[int]) -> PlanChange:
    """Returns the change, without the versions to return to that are not stored."""
    plan = change.plan
    known = {0, *stored}
    previous = plan.previous if plan.previous in known else 0
    reference = plan.reference if plan.reference in known else plan.stable
    return replace(change, plan=msgspec.structs.replace(plan, previous=previous, reference=reference))
