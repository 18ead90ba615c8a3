"""Every change of the rollout plan: pure functions (steps), each of which makes the next plan, and the write of a step.

    begin -> follow -> ramp -> promote | withdraw -> follow ...      steps that versions and labels cause
             follow -> make_stable                                   a version becomes stable at its publication
             follow -> replace_candidate                             newer versions are better than the candidate
             revert_to, move_reference                               the stable version turned bad, or is clearly better
    heal: the store has lost a version that the plan names
    change: applies a step to the plan in force by compare and swap

The operator's steps are in `rollout/operator.py`. A step returns everything that is written together: the plan, the
decision, and `current`, the version from which the learner continues (None: unchanged).
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
from wire.store import OperatorStep, Plans

MAX_NUMBER: Final = 1e9
"""Largest number that is stored with a decision: JSON has no infinity."""

MIN_STABLE_MS: Final = 60_000
"""A rollback goes back to the last version that was stable for at least this time."""


class NotPossible(ValueError):
    """The plan does not allow this change; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A new plan, with the decision and the learner's version, which are written atomically with it.

    `current` is the version from which the learner continues (None: unchanged).
    """

    plan: RolloutPlan
    decision: Decision | None = None
    current: int | None = None


@dataclass(frozen=True, slots=True)
class Rationale:
    """Why a decision is made: the rule that made it, a sentence, and its numbers."""

    rule: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_ruling(cls, ruling: Ruling | PublicationRuling) -> "Rationale":
        """Returns the rationale of a ruling. Its numbers are capped at MAX_NUMBER and rounded to four digits."""
        numbers: dict[str, float] = {}
        for name, value in asdict(ruling.numbers).items():
            if not math.isnan(value):
                numbers[name] = round(min(value, MAX_NUMBER), 4)
        return cls(ruling.rule, ruling.reason, numbers)


def begin(version: int, *, salt: str, now_ms: int) -> PlanChange:
    """Lets the first version answer everything; it is the first reference, too."""
    rationale = Rationale("", "the first version")
    plan = RolloutPlan(revision=0, salt=salt, arms=(), reference=version)
    return with_decision(plan, "promoted", version, rationale, now_ms, arms=make_arms(version))


def follow_current(
    plan: RolloutPlan | None, current: int, config: RolloutConfig, *, salt: str, now_ms: int
) -> PlanChange | None:
    """Makes the first plan with the current version, or gives that version to the newest arm.

    Returns None if nothing changes, for example because the plan is pinned.
    """
    if not current:
        return None
    if plan is None:
        return begin(current, salt=salt, now_ms=now_ms)
    if plan.pinned or current == plan.stable or (current == plan.newest and plan.candidate):
        return None
    return follow(plan, current, config, now_ms=now_ms)


def follow(plan: RolloutPlan, version: int, config: RolloutConfig, *, now_ms: int) -> PlanChange:
    """Makes `version` the newest version. If there is no candidate, `version` becomes the candidate, too. This is not a
    decision."""
    arms = make_arms(plan.stable, plan.arm(CANDIDATE) or candidate_arm(version, config), newest_arm(version, config))
    reason = f"version {version} was published"
    after = _next_revision(plan, now_ms, arms=arms, reason=reason, reference=plan.reference or plan.stable)
    return PlanChange(after)


def replace_candidate(plan: RolloutPlan, labels: str, config: RolloutConfig, *, now_ms: int) -> PlanChange:
    """Makes the newest version the candidate, because it is better than the present candidate by these `labels`."""
    before = plan.candidate
    arms = make_arms(plan.stable, candidate_arm(plan.newest, config), plan.arm(NEWEST))
    reason = f"version {plan.newest} is better than the candidate before, version {before}: {labels}"
    return PlanChange(_next_revision(plan, now_ms, arms=arms, reason=reason))


def make_stable(
    plan: RolloutPlan, version: int, rationale: Rationale, *, moves_reference: bool = False, now_ms: int
) -> PlanChange:
    """Makes `version`, which is newer than the candidate, stable. The trial of the candidate ends.

    `moves_reference` makes it the reference, too. It is set if `version` is better than the reference. It is also set
    if `version` has another encoder, because then neither it nor a later version can be compared with the old
    reference.
    """
    newer = plan.arm(NEWEST) if plan.newest > version else None
    arms = make_arms(version, newer)
    return _with_stable_version(plan, version, rationale, now_ms, arms=arms, moves_reference=moves_reference)


def ramp(plan: RolloutPlan, share: float, *, now_ms: int) -> PlanChange:
    """Raises the candidate's share of the traffic to `share`."""
    arm = _require_candidate(plan)
    arms = make_arms(plan.stable, msgspec.structs.replace(arm, share=share), plan.arm(NEWEST))
    rationale = Rationale("", f"the candidate answers {share:.0%}")
    return with_decision(plan, "ramped", arm.version, rationale, now_ms, arms=arms)


def promote(
    plan: RolloutPlan, rationale: Rationale, config: RolloutConfig, *, moves_reference: bool = False, now_ms: int
) -> PlanChange:
    """Makes the candidate the stable version; the newest version becomes the candidate.

    `moves_reference` makes the candidate the reference, too: it was shown to be better, or has another encoder.
    """
    version = _require_candidate(plan).version
    next_candidate = candidate_arm(plan.newest, config) if plan.newest not in (0, version) else None
    arms = make_arms(version, next_candidate, plan.arm(NEWEST) if next_candidate else None)
    return _with_stable_version(plan, version, rationale, now_ms, arms=arms, moves_reference=moves_reference)


def withdraw(
    plan: RolloutPlan, version: int, rationale: Rationale, *, is_imported: bool = False, now_ms: int
) -> PlanChange:
    """Withdraws `version`, which is the candidate or the newest version.

    The stable version then answers everything, and the learner continues from it, because newer versions were trained
    from the withdrawn one. If `version` was imported (`is_imported`), no version was trained from it, so the newest arm
    and the learner go on.
    """
    if is_imported:
        arms = make_arms(plan.stable, plan.arm(NEWEST))
        return with_decision(plan, "withdrawn", version, rationale, now_ms, arms=arms, approved=0)
    withdrawn = with_decision(plan, "withdrawn", version, rationale, now_ms, arms=make_arms(plan.stable), approved=0)
    return replace(withdrawn, current=plan.stable)


def revert_to(plan: RolloutPlan, version: int, rationale: Rationale, *, now_ms: int) -> PlanChange:
    """Withdraws the stable version, which turned bad. `version` then answers everything, and the learner continues from
    it."""
    reference = version if plan.reference == plan.stable else plan.reference
    arms = make_arms(version)
    withdrawn = with_decision(
        plan, "withdrawn", plan.stable, rationale, now_ms, arms=arms, previous=0, reference=reference, approved=0
    )
    return replace(withdrawn, current=version)


def move_reference(plan: RolloutPlan, rationale: Rationale, *, now_ms: int) -> PlanChange:
    """Makes the stable version the reference."""
    return with_decision(plan, "reference", plan.stable, rationale, now_ms, reference=plan.stable)


def heal(plan: RolloutPlan, *, stored: Collection[int], current: int, now_ms: int) -> PlanChange | None:
    """Removes versions that are not stored from the plan; returns None if all versions of the plan are stored.

    A missing stable version is replaced by the current version if that is stored, else by the newest stored version,
    even if the plan is pinned. A missing reference is replaced by the stable version.
    """
    missing = set(plan.needed) - {*stored}
    if not missing or not stored:
        return None
    stable = plan.stable
    if stable in missing:
        stable = current if current in stored else max(stored)
    reason = f"{_render_versions(missing)} not stored: version {stable} answers"
    arms = make_arms(stable) if missing & {*plan.versions} else plan.arms
    previous = 0 if plan.previous in {*missing, stable} else plan.previous
    reference = stable if plan.reference in missing else plan.reference
    if stable == plan.stable:
        after = _next_revision(plan, now_ms, arms=arms, previous=previous, reference=reference, reason=reason)
        return PlanChange(after)
    rationale = Rationale("", reason)
    return with_decision(plan, "promoted", stable, rationale, now_ms, arms=arms, previous=previous, reference=reference)


UNPAIRED = "unpaired"
"""The name in stored decisions of the rule for versions with another encoder."""


def with_decision(
    plan: RolloutPlan, action: Action, version: int, rationale: Rationale, now_ms: int, **changes: Any
) -> PlanChange:
    """Returns the plan with these changes, and the decision about `version` that caused them."""
    after = _next_revision(plan, now_ms, reason=rationale.reason, **changes)
    decision = Decision(
        version=version,
        action=action,
        time_ms=now_ms,
        rule=rationale.rule,
        reason=rationale.reason,
        numbers=dict(rationale.numbers),
        revision=after.revision,
        stable=after.stable,
        reference=after.reference,
    )
    return PlanChange(after, decision)


def rollback_target(plan: RolloutPlan, now_ms: int) -> int:
    """Returns the version to which a rollback would go back if another version became stable now.

    It is the last version that was stable for MIN_STABLE_MS. While classes are new, several versions become stable
    within a second, so the version just before the present one hardly differs from it.
    """
    has_lasted = now_ms - plan.stable_since_ms >= MIN_STABLE_MS
    return plan.stable if has_lasted or not plan.previous else plan.previous


def make_arms(stable: int, *others: Arm | None) -> tuple[Arm, ...]:
    """Returns the arms of a plan, candidate before newest. The stable version gets the rest of the traffic."""
    arms = [arm for arm in others if arm is not None]
    return (Arm(name=STABLE, version=stable, share=1.0 - sum(arm.share for arm in arms)), *arms)


def candidate_arm(version: int, config: RolloutConfig) -> Arm:
    """Returns the arm of a candidate at the first step of its ramp."""
    return Arm(name=CANDIDATE, version=version, share=config.ramp[0])


def newest_arm(version: int, config: RolloutConfig) -> Arm:
    return Arm(name=NEWEST, version=version, share=config.newest_share)


def _with_stable_version(
    plan: RolloutPlan, version: int, rationale: Rationale, now_ms: int, *, arms: tuple[Arm, ...], moves_reference: bool
) -> PlanChange:
    reference = version if moves_reference else plan.reference
    changes = {"arms": arms, "previous": rollback_target(plan, now_ms), "reference": reference, "approved": 0}
    return with_decision(plan, "promoted", version, rationale, now_ms, **changes)


def _require_candidate(plan: RolloutPlan) -> Arm:
    arm = plan.arm(CANDIDATE)
    if arm is None:
        raise NotPossible("there is no candidate; name a version (`lifelong versions` lists them)")
    return arm


def _render_versions(versions: Collection[int]) -> str:
    """Returns the beginning of a sentence, such as "version 4 is" or "versions 4, 7 are"."""
    numbers = ", ".join(map(str, sorted(versions)))
    return f"version {numbers} is" if len(versions) == 1 else f"versions {numbers} are"


def _next_revision(plan: RolloutPlan, now_ms: int, **changes: Any) -> RolloutPlan:
    after = msgspec.structs.replace(plan, revision=plan.revision + 1, time_ms=now_ms, **changes)
    return after if after.stable == plan.stable else msgspec.structs.replace(after, stable_since_ms=now_ms)


PlanStep: TypeAlias = Callable[[RolloutPlan | None], PlanChange | None]

MAX_TRIES = 20
"""Number of attempts to write a plan. Only the controller and a few operators write, so no race fails this often."""


def change(
    plans: Plans, step: PlanStep, *, to_log_entry: Callable[[PlanChange], OperatorStep] | None = None
) -> RolloutPlan | None:
    """Applies `step` to the plan in force (None: there is none yet), and writes the result by compare and swap.

    Returns the new plan, or None if the step changes nothing. For an operator's command, `to_log_entry` makes the entry
    in the log of commands. Raises PlanMoved if other writers come first MAX_TRIES times.
    """
    for _ in range(MAX_TRIES):
        proposed = step(plans.read())
        if proposed is None:
            return None
        log_entry = None if to_log_entry is None else to_log_entry(proposed)
        try:
            plans.write(proposed.plan, proposed.decision, proposed.current, step=log_entry)
        except PlanMoved:
            continue
        return proposed.plan
    raise PlanMoved(f"the plan was changed by others {MAX_TRIES} times in a row")
