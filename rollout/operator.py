"""The operator's commands: status, history, start, promote, rollback, approve, pin, unpin, pause, resume.

    Operator.promote --promote_step, pure--> PlanChange --compare and swap--> RolloutPlan, in Redis

Each command writes the plan and an entry in the log of commands, in one atomic write. So it works whether or not the
controller runs, because the controller reads the plan again before it writes. The new plan is in force at once. The
command returns when it is on disk.

If an operator chooses the stable version, this counts as a decision about its quality. So the version becomes the
reference, too.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from rollout.config import RolloutConfig
from rollout.plans import NotPossible, PlanChange, Rationale, candidate_arm, change, make_arms, with_decision
from wire.records import (
    CANDIDATE,
    NEWEST,
    ControllerReport,
    Decision,
    LearnerReport,
    ReplicaReport,
    RolloutPlan,
    VersionEntry,
    WeightManifest,
)
from wire.store import OperatorStep, Store


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The status of the rollout. `current` is the version from which the learner continues.

    `learner` and `controller` are these processes' last reports (None: there is none). `num_unreadable` counts the
    stored reports that cannot be decoded.
    """

    plan: RolloutPlan | None
    current: int
    replicas: tuple[ReplicaReport, ...]
    history: tuple[VersionEntry, ...]
    learner: LearnerReport | None
    controller: ControllerReport | None
    num_unreadable: int


class Operator:
    """The commands of one operator for one store. `config` has the arms' shares of the traffic."""

    def __init__(self, store: Store, *, name: str, config: RolloutConfig | None = None) -> None:
        self._store = store
        self._config = config or RolloutConfig()
        self._name = name
        self._by = f"asked for by {name}"

    def status(self, *, entries: int = 10) -> RolloutStatus:
        """Returns the plan, the reports of the replicas, and the last `entries` lines of the history."""
        store = self._store
        num_before = store.reports.num_unreadable
        return RolloutStatus(
            plan=store.plans.read(),
            current=store.versions.current(),
            replicas=tuple(store.reports.replicas()),
            history=tuple(store.versions.history(entries)),
            learner=store.reports.learner(),
            controller=store.reports.controller(),
            num_unreadable=store.reports.num_unreadable - num_before,
        )

    def history(self, *, since_ms: int, entries: int) -> list[Decision]:
        """Returns the decisions since `since_ms`, newest first, at most `entries` of them."""
        return self._store.plans.decisions.since(since_ms, entries)

    def manifest(self, version: int) -> WeightManifest:
        """Returns the manifest of a version. Raises NotFound."""
        return self._store.versions.manifest(version)

    def start(self, version: int, *, now_ms: int) -> RolloutPlan:
        """Makes `version` the candidate, whose ramp begins."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return start_step(plan, number, self._config, by=self._by, now_ms=now_ms)

        return self._change("start", step)

    def promote(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Makes `version` (None: the candidate) the stable version."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return promote_step(plan, number, self._config, by=self._by, now_ms=now_ms)

        return self._change("promote", step)

    def rollback(self, *, now_ms: int) -> RolloutPlan:
        """Makes the previous stable version stable again."""
        return self._change("rollback", partial(rollback_step, by=self._by, now_ms=now_ms))

    def approve(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Allows `version` (None: the candidate) to become stable when the evidence is for it."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return approve_step(plan, number, by=self._by, now_ms=now_ms)

        return self._change("approve", step)

    def pin(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Routes all traffic to `version` (None: the stable version) until `unpin`."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(plan.stable if version is None else version, plan)
            return pin_step(plan, number, by=self._by, now_ms=now_ms)

        return self._change("pin", step)

    def unpin(self, *, now_ms: int) -> RolloutPlan:
        """Ends `pin`: new versions get traffic again, and candidates are judged again."""
        return self._change("unpin", partial(unpin_step, by=self._by, now_ms=now_ms))

    def pause(self, *, now_ms: int) -> RolloutPlan:
        """Stops ramps and promotions; bad versions are still withdrawn."""
        return self._change("pause", partial(pause_step, by=self._by, now_ms=now_ms))

    def resume(self, *, now_ms: int) -> RolloutPlan:
        """Continues ramps and promotions."""
        return self._change("resume", partial(resume_step, by=self._by, now_ms=now_ms))

    def _change(self, verb: str, step: Callable[[RolloutPlan], PlanChange]) -> RolloutPlan:
        def stored_step(plan: RolloutPlan | None) -> PlanChange:
            return without_missing(step(_require_plan(plan)), self._store.versions.stored())

        def to_log_entry(proposed: PlanChange) -> OperatorStep:
            decision = proposed.decision
            assert decision is not None, "an operator's step is a decision"
            return OperatorStep(verb, decision.version, self._name, decision.time_ms)

        after = change(self._store.plans, stored_step, to_log_entry=to_log_entry)
        assert after is not None, "an operator's step always changes something or raises"
        self._store.plans.sync()
        return after

    def _stored_version(self, version: int | None, plan: RolloutPlan) -> int:
        """Returns `version` (None: the candidate). Raises NotFound if it is not stored."""
        if version is None and not plan.candidate:
            raise NotPossible("there is no candidate; name a version (`lifelong versions` lists them)")
        number = plan.candidate if version is None else version
        self._store.versions.manifest(number)
        return number


def _require_plan(plan: RolloutPlan | None) -> RolloutPlan:
    if plan is None:
        raise NotPossible("no version was published yet, so there is no rollout; is the learner running?")
    return plan


OPERATOR = "operator"
"""The name in stored decisions of the rule "an operator decided"."""


def start_step(plan: RolloutPlan, version: int, config: RolloutConfig, *, by: str, now_ms: int) -> PlanChange:
    """Makes `version` the candidate instead of the present one. Its ramp begins."""
    if plan.pinned:
        raise NotPossible("the rollout is pinned; `lifelong rollout unpin` lets candidates be judged")
    if version in (plan.stable, plan.candidate):
        raise NotPossible(f"version {version} is the {'stable one' if version == plan.stable else 'candidate'} already")
    arms = make_arms(plan.stable, candidate_arm(version, config), plan.arm(NEWEST))
    return with_decision(plan, "started", version, Rationale(OPERATOR, by), now_ms, arms=arms, approved=0)


def promote_step(plan: RolloutPlan, version: int, config: RolloutConfig, *, by: str, now_ms: int) -> PlanChange:
    """Makes `version` the stable version. A candidate that is newer stays the candidate. If there is none, the newest
    version becomes the candidate if it is newer than `version`."""
    if version == plan.stable:
        raise NotPossible(f"version {version} is the stable one already")
    candidate = plan.arm(CANDIDATE) if plan.candidate > version else None
    newer = plan.arm(NEWEST) if plan.newest > version else None
    if candidate is None and newer is not None:
        candidate = candidate_arm(newer.version, config)
    changes = {"arms": make_arms(version, candidate, newer), "previous": plan.stable, "reference": version}
    return with_decision(plan, "promoted", version, Rationale(OPERATOR, by), now_ms, approved=0, **changes)


def rollback_step(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Lets the previous stable version answer everything, and the learner continue from it.

    Replicas still hold that version, so they load nothing. A second rollback is not possible, since earlier versions
    may have been collected.
    """
    if not plan.previous:
        raise NotPossible("there is no earlier stable version; `lifelong versions` lists what can be promoted")
    rationale = Rationale(OPERATOR, f"rolled back from version {plan.stable}: {by}")
    changes = {"arms": make_arms(plan.previous), "previous": 0, "reference": plan.previous}
    rolled_back = with_decision(plan, "rolled_back", plan.previous, rationale, now_ms, approved=0, **changes)
    return replace(rolled_back, current=plan.previous)


def approve_step(plan: RolloutPlan, version: int, *, by: str, now_ms: int) -> PlanChange:
    """Allows the candidate, which `version` must be, to become stable as soon as the evidence is for it."""
    if version != plan.candidate:
        raise NotPossible(f"version {version} is not the candidate; `lifelong rollout status` names it")
    return with_decision(plan, "approved", version, Rationale(OPERATOR, by), now_ms, approved=version)


def pin_step(plan: RolloutPlan, version: int, *, by: str, now_ms: int) -> PlanChange:
    """Lets `version` answer everything until `unpin`; versions that are published meanwhile wait."""
    rationale = Rationale(OPERATOR, f"pinned to version {version}: {by}")
    previous = plan.previous if version == plan.stable else plan.stable
    changes = {"arms": make_arms(version), "previous": previous, "reference": version}
    return with_decision(plan, "pinned", version, rationale, now_ms, pinned=True, approved=0, **changes)


def unpin_step(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Ends `pin`: new versions get traffic again, and candidates are judged again."""
    if not plan.pinned:
        raise NotPossible("the rollout is not pinned")
    return with_decision(plan, "unpinned", plan.stable, Rationale(OPERATOR, f"unpinned: {by}"), now_ms, pinned=False)


def pause_step(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Stops ramps and promotions until `resume`. Bad versions are withdrawn, and the newest arm follows the learner."""
    if plan.paused:
        raise NotPossible("the rollout is paused already")
    return with_decision(plan, "paused", plan.stable, Rationale(OPERATOR, f"paused: {by}"), now_ms, paused=True)


def resume_step(plan: RolloutPlan, *, by: str, now_ms: int) -> PlanChange:
    """Continues the ramp of the candidate, and promotions."""
    if not plan.paused:
        raise NotPossible("the rollout is not paused")
    return with_decision(plan, "resumed", plan.stable, Rationale(OPERATOR, f"resumed: {by}"), now_ms, paused=False)


def without_missing(proposed: PlanChange, stored: Collection[int]) -> PlanChange:
    """Returns the change, in which a previous version that is not stored is 0, and a missing reference is the stable
    version."""
    plan = proposed.plan
    known = {0, *stored}
    previous = plan.previous if plan.previous in known else 0
    reference = plan.reference if plan.reference in known else plan.stable
    return replace(proposed, plan=msgspec.structs.replace(plan, previous=previous, reference=reference))
