"""What `lifelong rollout` says to a human: status, plan and decisions as lines of text. Pure."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rollout.operator import RolloutStatus
    from wire.records import ControllerReport, Decision, LearnerReport, ReplicaReport, RolloutPlan

NOTHING = "No version was published yet."


def status_lines(status: "RolloutStatus") -> Iterator[str]:
    """Yields the arms, what the labels say of them, which replicas have taken the plan, and what goes wrong."""
    yield plan_line(status.plan) if status.plan else NOTHING
    yield f"current version: {status.current or 'none'}"
    if status.controller is None:
        yield "evidence: no controller is heard of"
    else:
        yield from _controller_lines(status.controller)
    if status.num_unreadable:
        yield f"ALARM: {status.num_unreadable} reports cannot be read"
    for report in status.replicas:
        yield from _replica_lines(report)
    if status.learner is not None:
        yield from _learner_lines(status.learner)


def plan_line(plan: "RolloutPlan") -> str:
    """Returns the arms of a plan, the versions beside them, and why it is as it is."""
    arms = ", ".join(f"{arm.name} version {arm.version} for {arm.share:.0%}" for arm in plan.arms)
    previous = f", rollback goes to version {plan.previous}" if plan.previous else ""
    reference = f", the reference is version {plan.reference}" if plan.reference else ""
    pinned = ", pinned" if plan.pinned else ""
    held = ", paused" if plan.paused else pinned
    approved = f", version {plan.approved} is approved" if plan.approved else ""
    return f"revision {plan.revision}: {arms}{previous}{reference}{approved}{held} ({plan.reason})"


def decision_line(decision: "Decision") -> str:
    """Returns when and what was decided about which version, by which rule, and why."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision.time_ms / 1000))
    rule = f" by {decision.rule}" if decision.rule else ""
    count = f" (the last of {decision.count} in this hour)" if decision.count > 1 else ""
    return f"{moment}  version {decision.version:<5} {decision.action}{rule}: {decision.reason}{count}"


def unbelieved(counts: Mapping[str, int]) -> str:
    """Returns the number of refused and held labels by reason, and of those that were withdrawn.

    >>> unbelieved({"refused_forged": 12, "quarantined_flip": 3, "withdrawn": 6, "matched": 900})
    '3 flip, 12 forged, 6 withdrawn'
    """
    parts = []
    for name, num in sorted(counts.items()):
        outcome, _, reason = name.partition("_")
        if num and outcome in ("refused", "quarantined", "withdrawn"):
            parts.append(f"{num} {reason or outcome}")
    return ", ".join(parts)


def _controller_lines(controller: "ControllerReport") -> Iterator[str]:
    yield f"evidence: {controller.evidence or 'none'}"
    if controller.waits_for:
        yield f"not decided: {controller.waits_for}"
    if controller.label_rates:
        rates = [f"{rate.arm} {rate.labels} of {rate.answers} answers" for rate in controller.label_rates]
        yield f"labels: {', '.join(rates)}, at the shares of now"
    for alarm in controller.alarms:
        yield f"ALARM: {alarm}"


def _replica_lines(report: "ReplicaReport") -> Iterator[str]:
    yield f"replica {report.replica}: revision {report.revision}, versions {list(report.versions)}"
    for alarm in report.alarms:
        yield f"ALARM: {alarm}"


def _learner_lines(learner: "LearnerReport") -> Iterator[str]:
    num_provisional = learner.counts.get("classes_provisional", 0)
    num_evicted = learner.counts.get("classes_evicted", 0)
    classes = f"{learner.num_classes} classes ({num_provisional} provisional, {num_evicted} evicted)"
    yield f"learner: {learner.state}, {classes}, recent accuracy {learner.recent_accuracy:.1%}"
    yield f"learner: version {learner.version}, on the store's disk up to version {learner.durable_version}"
    if learner.refusals:
        num = learner.counts.get("gate_in_a_row", 0)
        yield f"learner: {num} versions in a row were refused, the last as {', '.join(learner.refusals)}"
    drift = f"{learner.num_drifts}, the last: {learner.drifts[-1]}" if learner.drifts else "none"
    yield f"drifts found: {drift}"
    from wire.records import TIERS  # which the report's reader has loaded by now

    tiers = ", ".join(f"{tier} {learner.counts.get(f'rounds_{tier}', 0)}" for tier in TIERS)
    yield f"slow rounds begun, by the tier that they train: {tiers}"
    yield f"labels not believed: {unbelieved(learner.counts) or 'none'}"
    for alarm in learner.alarms:
        yield f"ALARM: {alarm}"
