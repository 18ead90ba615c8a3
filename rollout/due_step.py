"""Chooses the next step of the plan from all labels and answers so far. Pure.

    plan, Tallies --due_step--> a step of the plan, or what the decision waits for

It asks these questions in order. The first one that has a step as its answer decides:

1. Did the stable version turn bad? 2. Are newer versions better than the candidate? Then the newest one replaces it.
The candidate is not withdrawn, because a withdrawal would also take the learner back to the stable version. 3. Is the
candidate to be withdrawn or promoted? 4. Are the newest versions better than the stable one? 5. May the reference move?
6. Is the next step of the ramp due?

Versions with the stable version's encoder are compared with it on the same events. Versions with another encoder are
compared by the answers of their own arms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from rollout import paired_rule, plans, unpaired_rule
from rollout.config import RolloutConfig
from rollout.paired_rule import NO_HEALTH
from rollout.plans import UNPAIRED, PlanChange, Rationale
from rollout.tallies import Tallies
from wire.records import RolloutPlan, VersionHealth

Step: TypeAlias = Callable[[RolloutPlan], PlanChange]

TURNED_BAD: Final = "change"
"""The name in stored decisions of the rule "a stable version has turned bad"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionInputs:
    """All inputs of a decision.

    - `health`: each version's health, summed over all replicas.
    - `has_other_encoder`: whether the versions with these two numbers have different encoders.
    - `is_imported`: whether the version with this number was imported from another service.
    """

    plan: RolloutPlan
    tallies: Tallies
    health: Mapping[int, VersionHealth]
    config: RolloutConfig
    now_ms: int
    has_other_encoder: Callable[[int, int], bool]
    is_imported: Callable[[int], bool] = lambda version: False


class DueStep(NamedTuple):
    """The step that is due (None: no step), and what the decision about the candidate waits for ("": nothing)."""

    step: Step | None
    waits_for: str = ""


def due_step(inputs: DecisionInputs) -> DueStep:
    """Returns the step that is due now, or what the decision waits for."""
    first = _return_step(inputs) or _overtaking_step(inputs)
    if first is not None:
        return DueStep(first)
    candidate = _candidate_step(inputs)
    newest = candidate if candidate.step else _newest_step(inputs)
    step = newest.step or _reference_step(inputs) or _ramp_step(inputs)
    return DueStep(step, newest.waits_for or candidate.waits_for)


def objection(tallies: Tallies) -> str:
    """Returns the reason why no version may become stable at its publication, "" if there is none."""
    newest = tallies.newest.stable
    chain = tallies.chain.comparison()
    if paired_rule.shown_below(newest, 0.0) >= paired_rule.THRESHOLD:
        return f"the newest versions are worse than the stable one, {newest.labels}"
    if paired_rule.shown_below(chain, 0.0) >= paired_rule.DOUBT_THRESHOLD:
        return f"the stable versions are worse than the reference, {chain.labels}"
    return ""


def _return_step(inputs: DecisionInputs) -> Step | None:
    """Withdraws the stable version if it turned bad. The previous stable version, or the reference, then answers
    again."""
    plan = inputs.plan
    tallies = inputs.tallies
    # The learner, too, goes back to that version and loses all that it has learnt since. A loss within the margin does
    # not justify that.
    worse = paired_rule.shown_below(tallies.chain.comparison(), -paired_rule.MARGIN)
    if plan.previous and tallies.stable_watch.is_alarm:
        version = plan.previous
        reason = f"it turned worse than version {version}, the one before"
        numbers = {"turned_bad": tallies.stable_watch.log_e}
    elif plan.reference and (tallies.chain_watch.is_alarm or worse >= paired_rule.THRESHOLD):
        version = plan.reference
        reason = f"the stable versions are worse than the reference, version {version}: {tallies.chain.labels}"
        numbers = {"turned_bad": tallies.chain_watch.log_e, "worse_than_reference": worse}
    else:
        return None
    rationale = Rationale(TURNED_BAD, reason, numbers)
    return partial(plans.revert_to, version=version, rationale=rationale, now_ms=inputs.now_ms)


def _candidate_step(inputs: DecisionInputs) -> DueStep:
    """Withdraws or promotes the candidate by paired evidence."""
    plan = inputs.plan
    if not plan.candidate:
        return DueStep(None)
    evidence = replace(
        inputs.tallies.evidence(stable_share=plan.arms[0].share, is_ramp_over=_is_ramp_over(inputs)),
        health=inputs.health.get(plan.candidate, NO_HEALTH),
    )
    ruling = paired_rule.decide(evidence)
    rationale = Rationale.from_ruling(ruling)
    if ruling.action == "withdraw":
        is_imported = inputs.is_imported(plan.candidate)
        step = partial(plans.withdraw, version=plan.candidate, rationale=rationale, is_imported=is_imported)
        return DueStep(partial(step, now_ms=inputs.now_ms))
    if ruling.action == "hold":
        return DueStep(None, ruling.reason)
    if hold_reason := _hold_reason(inputs, plan.candidate, rationale):
        return DueStep(None, hold_reason)
    is_better = paired_rule.is_next_reference(evidence.reference)
    moves_reference = is_better or inputs.has_other_encoder(plan.candidate, plan.reference)
    return DueStep(
        partial(
            plans.promote,
            rationale=rationale,
            config=inputs.config,
            moves_reference=moves_reference,
            now_ms=inputs.now_ms,
        )
    )


def _newest_step(inputs: DecisionInputs) -> DueStep:
    """Makes the newest version stable, or withdraws it.

    - The newest version is withdrawn if its answers fail or are slow, or if it is worse than the stable version and has
      another encoder.
    - The newest version becomes stable if the chain of newest versions (`rollout.tallies`) is better than the stable
      version (rule B), or is not worse and has another encoder. If versions are approved by hand, the approved version
      becomes stable instead.
    """
    plan = inputs.plan
    is_by_hand = inputs.config.approval == "by_hand"
    version = plan.candidate if is_by_hand else plan.newest
    evidence = replace(inputs.tallies.newest, health=inputs.health.get(plan.newest, NO_HEALTH))
    ruling = paired_rule.decide(evidence)
    if plan.newest and ruling.numbers.is_unhealthy:
        rationale = Rationale.from_ruling(ruling)
        return DueStep(partial(plans.withdraw, version=plan.newest, rationale=rationale, now_ms=inputs.now_ms))
    arms = unpaired_rule.decide(inputs.tallies.arms, inputs.config)
    if arms.action != "hold":
        rationale = Rationale(UNPAIRED, arms.reason, arms.numbers)
        if arms.action == "withdraw":
            return DueStep(partial(plans.withdraw, version=plan.newest, rationale=rationale, now_ms=inputs.now_ms))
    else:
        rationale = Rationale.from_ruling(ruling)
        if ruling.action != "promote" or is_by_hand:
            return DueStep(None)
    if version <= plan.stable:
        return DueStep(None)
    if hold_reason := _hold_reason(inputs, version, rationale):
        return DueStep(None, hold_reason)
    is_better = plan.reference == plan.stable and paired_rule.is_next_reference(evidence.stable)
    moves_reference = is_better or inputs.has_other_encoder(version, plan.reference)
    return DueStep(
        partial(
            plans.make_stable,
            version=version,
            rationale=rationale,
            moves_reference=moves_reference,
            now_ms=inputs.now_ms,
        )
    )


def _hold_reason(inputs: DecisionInputs, version: int, rationale: Rationale) -> str:
    """Returns the reason why `version` may not become stable although the evidence is for it, "" if it may."""
    if inputs.plan.paused:
        return f"paused: {rationale.reason}"
    if inputs.config.approval == "by_hand" and inputs.plan.approved != version:
        return f"waits for `lifelong rollout approve {version}`: {rationale.reason}"
    return ""


def _overtaking_step(inputs: DecisionInputs) -> Step | None:
    """Makes the newest version the candidate if the newest versions are better than the candidate, and not worse than
    the stable version."""
    plan = inputs.plan
    tallies = inputs.tallies
    overtaking = tallies.overtaking.comparison()
    is_worse = paired_rule.shown_below(tallies.newest.stable, 0.0) >= paired_rule.DOUBT_THRESHOLD
    if not plan.candidate or plan.paused or plan.approved == plan.candidate or is_worse:
        return None
    if paired_rule.shown_above(overtaking, 0.0) < paired_rule.THRESHOLD:
        return None
    return partial(plans.replace_candidate, labels=str(overtaking.labels), config=inputs.config, now_ms=inputs.now_ms)


def _reference_step(inputs: DecisionInputs) -> Step | None:
    """Makes the stable version the reference if the stable versions since the present reference are better than it."""
    plan = inputs.plan
    chain = inputs.tallies.chain.comparison()
    if plan.stable == plan.reference or plan.paused or not paired_rule.is_next_reference(chain):
        return None
    reason = f"better than version {plan.reference}: {chain.labels}"
    rationale = Rationale("", reason, {"better_than_reference": paired_rule.shown_above(chain, 0.0)})
    return partial(plans.move_reference, rationale=rationale, now_ms=inputs.now_ms)


def _ramp_step(inputs: DecisionInputs) -> Step | None:
    plan = inputs.plan
    tallies = inputs.tallies
    larger = [share for share in inputs.config.ramp if share > tallies.frame.share]
    is_due = plan.candidate and not plan.paused and tallies.num_answers >= inputs.config.ramp_answers
    return partial(plans.ramp, share=larger[0], now_ms=inputs.now_ms) if is_due and larger else None


def _is_ramp_over(inputs: DecisionInputs) -> bool:
    """Whether the ramp of the candidate is over."""
    is_last = inputs.tallies.frame.share >= inputs.config.ramp[-1]
    return is_last and inputs.tallies.num_answers >= inputs.config.ramp_answers
