"""Which step of the plan is due, by all that labels and answers say. Pure.

    plan, Tallies --due_step--> a step of the plan, or what the decision waits for

It asks, in this order: did the stable version turn bad; have newer versions overtaken the candidate; is the candidate
to be withdrawn or promoted; are the newest versions better than the stable one; may the reference move; is the next
step of the ramp due? A candidate that was overtaken is not withdrawn, since that would set back the learner, too.
Versions that share the stable one's encoder are decided on by paired evidence, others by the answers of their own arms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from rollout import paired_rule, plans, unpaired_rule
from rollout.config import RolloutConfig
from rollout.paired_rule import NO_HEALTH
from rollout.plans import UNPAIRED, Grounds, PlanChange
from rollout.tallies import Tallies
from wire.records import RolloutPlan, VersionHealth

Step: TypeAlias = Callable[[RolloutPlan], PlanChange]

TURNED_BAD: Final = "change"
"""The rule that a stable version has turned bad, by its name in the decisions that are stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionInputs:
    """All that a decision rests on. `health` has what all replicas report of a version, by its number.

    `has_other_encoder` compares two versions by their numbers; `is_imported` says whether one is of another service.
    """

    plan: RolloutPlan
    tallies: Tallies
    health: Mapping[int, VersionHealth]
    config: RolloutConfig
    now_ms: int
    has_other_encoder: Callable[[int, int], bool]
    is_imported: Callable[[int], bool] = lambda version: False


class DueStep(NamedTuple):
    """The step that is due (None: none is), and what the decision about the candidate waits for ("" for nothing)."""

    step: Step | None
    waits_for: str = ""


def due_step(inputs: DecisionInputs) -> DueStep:
    """Returns the step that is due now."""
    first = _return_step(inputs) or _overtaking_step(inputs)
    if first is not None:
        return DueStep(first)
    candidate = _candidate_step(inputs)
    newest = candidate if candidate.step else _newest_step(inputs)
    step = newest.step or _reference_step(inputs) or _ramp_step(inputs)
    return DueStep(step, newest.waits_for or candidate.waits_for)


def objection(tallies: Tallies) -> str:
    """Returns why no version may become stable at its publication, "" where nothing stands against it."""
    newest = tallies.newest.stable
    chain = tallies.chain.comparison()
    if paired_rule.shown_below(newest, 0.0) >= paired_rule.THRESHOLD:
        return f"the newest versions are worse than the stable one, {newest.labels}"
    if paired_rule.shown_below(chain, 0.0) >= paired_rule.DOUBT:
        return f"the stable versions are worse than the reference, {chain.labels}"
    return ""


def _return_step(inputs: DecisionInputs) -> Step | None:
    """Withdraws the stable version where it turned bad: the one before, or the reference, answers again."""
    plan = inputs.plan
    tallies = inputs.tallies
    # By less than the margin the learner would set aside what it has learnt since, which is worth more.
    worse = paired_rule.shown_below(tallies.chain.comparison(), -paired_rule.MARGIN)
    if plan.previous and tallies.stable_watch.is_alarm:
        version = plan.previous
        reason = f"it turned worse than version {version}, the one before"
        numbers = {"turned_bad": tallies.stable_watch.log_e}
    elif plan.reference and (tallies.chain_watch.is_alarm or worse >= paired_rule.THRESHOLD):
        version = plan.reference
        reason = f"the stable versions are worse than the reference {version}: {tallies.chain.labels}"
        numbers = {"turned_bad": tallies.chain_watch.log_e, "worse_than_reference": worse}
    else:
        return None
    grounds = Grounds(TURNED_BAD, reason, numbers)
    return partial(plans.return_to, version=version, grounds=grounds, now_ms=inputs.now_ms)


def _candidate_step(inputs: DecisionInputs) -> DueStep:
    """Withdraws or promotes the candidate by paired evidence."""
    plan = inputs.plan
    if not plan.candidate:
        return DueStep(None)
    evidence = replace(
        inputs.tallies.evidence(stable_share=plan.arms[0].share, is_exposed=_is_exposed(inputs)),
        health=inputs.health.get(plan.candidate, NO_HEALTH),
    )
    ruling = paired_rule.decide(evidence)
    grounds = Grounds.of(ruling)
    if ruling.action == "withdraw":
        is_imported = inputs.is_imported(plan.candidate)
        step = partial(plans.withdraw, version=plan.candidate, grounds=grounds, is_imported=is_imported)
        return DueStep(partial(step, now_ms=inputs.now_ms))
    if ruling.action == "hold":
        return DueStep(None, ruling.reason)
    if held := _why_held(inputs, plan.candidate, grounds):
        return DueStep(None, held)
    is_better = paired_rule.is_next_reference(evidence.reference)
    moves_reference = is_better or inputs.has_other_encoder(plan.candidate, plan.reference)
    return DueStep(
        partial(
            plans.promote,
            grounds=grounds,
            config=inputs.config,
            moves_reference=moves_reference,
            now_ms=inputs.now_ms,
        )
    )


def _newest_step(inputs: DecisionInputs) -> DueStep:
    """Makes the newest version stable where the newest ones are better than the stable one (rule B), or have another
    encoder and are not worse; withdraws those of another encoder that are worse, and those that fail or are slow.

    By hand it is the approved version instead.
    """
    plan = inputs.plan
    is_by_hand = inputs.config.approval == "by_hand"
    version = plan.candidate if is_by_hand else plan.newest
    evidence = replace(inputs.tallies.newest, health=inputs.health.get(plan.newest, NO_HEALTH))
    ruling = paired_rule.decide(evidence)
    if plan.newest and ruling.numbers.is_unhealthy:
        grounds = Grounds.of(ruling)
        return DueStep(partial(plans.withdraw, version=plan.newest, grounds=grounds, now_ms=inputs.now_ms))
    arms = unpaired_rule.decide(inputs.tallies.arms, inputs.config)
    if arms.action != "hold":
        grounds = Grounds(UNPAIRED, arms.reason, arms.numbers)
        if arms.action == "withdraw":
            return DueStep(partial(plans.withdraw, version=plan.newest, grounds=grounds, now_ms=inputs.now_ms))
    else:
        grounds = Grounds.of(ruling)
        if ruling.action != "promote" or is_by_hand:
            return DueStep(None)
    if version <= plan.stable:
        return DueStep(None)
    if held := _why_held(inputs, version, grounds):
        return DueStep(None, held)
    is_better = plan.reference == plan.stable and paired_rule.is_next_reference(evidence.stable)
    moves_reference = is_better or inputs.has_other_encoder(version, plan.reference)
    return DueStep(
        partial(plans.add, version=version, grounds=grounds, moves_reference=moves_reference, now_ms=inputs.now_ms)
    )


def _why_held(inputs: DecisionInputs, version: int, grounds: Grounds) -> str:
    """Returns why `version` may not become stable, though the evidence is for it; "" where it may."""
    if inputs.plan.paused:
        return f"paused: {grounds.reason}"
    if inputs.config.approval == "by_hand" and inputs.plan.approved != version:
        return f"waits for `lifelong rollout approve {version}`: {grounds.reason}"
    return ""


def _overtaking_step(inputs: DecisionInputs) -> Step | None:
    """Makes the newest version the candidate where the newest ones are better than that, and not worse than the stable
    one."""
    plan = inputs.plan
    tallies = inputs.tallies
    overtaking = tallies.overtaking.comparison()
    is_worse = paired_rule.shown_below(tallies.newest.stable, 0.0) >= paired_rule.DOUBT
    if not plan.candidate or plan.paused or plan.approved == plan.candidate or is_worse:
        return None
    if paired_rule.shown_above(overtaking, 0.0) < paired_rule.THRESHOLD:
        return None
    return partial(plans.replace_candidate, labels=str(overtaking.labels), config=inputs.config, now_ms=inputs.now_ms)


def _reference_step(inputs: DecisionInputs) -> Step | None:
    """Moves the reference where the stable versions since then are shown to be better than it."""
    plan = inputs.plan
    chain = inputs.tallies.chain.comparison()
    if plan.stable == plan.reference or plan.paused or not paired_rule.is_next_reference(chain):
        return None
    reason = f"better than version {plan.reference}: {chain.labels}"
    grounds = Grounds("", reason, {"better_than_reference": paired_rule.shown_above(chain, 0.0)})
    return partial(plans.move_reference, grounds=grounds, now_ms=inputs.now_ms)


def _ramp_step(inputs: DecisionInputs) -> Step | None:
    plan = inputs.plan
    tallies = inputs.tallies
    larger = [share for share in inputs.config.ramp if share > tallies.frame.share]
    is_due = plan.candidate and not plan.paused and tallies.num_answers >= inputs.config.ramp_answers
    return partial(plans.ramp, share=larger[0], now_ms=inputs.now_ms) if is_due and larger else None


def _is_exposed(inputs: DecisionInputs) -> bool:
    """Whether the ramp of the candidate is over."""
    is_last = inputs.tallies.frame.share >= inputs.config.ramp[-1]
    return is_last and inputs.tallies.num_answers >= inputs.config.ramp_answers
