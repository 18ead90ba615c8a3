"""Renders plans and decisions as lines of text for people. Pure."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.records import Decision, RolloutPlan

NOTHING = "No version was published yet."


def render_plan(plan: "RolloutPlan") -> str:
    """Returns one line about a plan: its arms, the previous version and the reference, and the reason."""
    arms = ", ".join(f"{arm.name} version {arm.version} for {arm.share:.0%}" for arm in plan.arms)
    previous = f", rollback goes to version {plan.previous}" if plan.previous else ""
    reference = f", the reference is version {plan.reference}" if plan.reference else ""
    pinned = ", pinned" if plan.pinned else ""
    state = ", paused" if plan.paused else pinned
    approved = f", version {plan.approved} is approved" if plan.approved else ""
    return f"revision {plan.revision}: {arms}{previous}{reference}{approved}{state} ({plan.reason})"


def render_decision(decision: "Decision") -> str:
    """Returns one line about a decision: the time, the version, the action, the rule and the reason."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision.time_ms / 1000))
    rule = f" by {decision.rule}" if decision.rule else ""
    count = f" (the last of {decision.count} in this hour)" if decision.count > 1 else ""
    return f"{moment}  version {decision.version:<5} {decision.action}{rule}: {decision.reason}{count}"
