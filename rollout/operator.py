"""The operator's commands: status, history, start, promote, rollback, approve, pin, unpin, pause, resume.

Each change is one atomic write of the plan, so it works with the controller running or stopped; the controller reads
the plan again before it writes. It returns when the plan is on disk, but is in force before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rollout import operator_steps
from rollout.change import change
from rollout.config import RolloutConfig
from rollout.plans import NotPossible, PlanChange
from wire.records import (
    ControllerReport,
    Decision,
    LearnerReport,
    ReplicaReport,
    RolloutPlan,
    VersionEntry,
    WeightManifest,
)
from wire.store import Store


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The status of the rollout. `current` is the version that the learner goes on from.

    `learner` and `controller` are their own reports (None: there is none). `num_unreadable` counts reports that could
    not be decoded.
    """

    plan: RolloutPlan | None
    current: int
    replicas: tuple[ReplicaReport, ...]
    history: tuple[VersionEntry, ...]
    learner: LearnerReport | None
    controller: ControllerReport | None
    num_unreadable: int


class Operator:
    """The commands, for one person at one store. `config` has the shares of the arms."""

    def __init__(self, store: Store, *, name: str, config: RolloutConfig | None = None) -> None:
        self._store = store
        self._config = config or RolloutConfig()
        self._by = f"asked for by {name}"

    def status(self, *, entries: int = 10) -> RolloutStatus:
        """Returns the plan, the replicas that follow it, and the last `entries` lines of the history."""
        store = self._store
        return RolloutStatus(
            plan=store.plans.read(),
            current=store.versions.current(),
            replicas=tuple(store.reports.replicas()),
            history=tuple(store.versions.history(entries)),
            learner=store.reports.learner(),
            controller=store.reports.controller(),
            num_unreadable=store.reports.num_unreadable,
        )

    def history(self, *, since_ms: int, entries: int) -> list[Decision]:
        """Returns the last `entries` decisions since then, newest first."""
        return self._store.plans.decisions.since(since_ms, entries)

    def manifest(self, version: int) -> WeightManifest:
        """Returns what is in a version. Raises NotFound."""
        return self._store.versions.manifest(version)

    def start(self, version: int, *, now_ms: int) -> RolloutPlan:
        """Makes `version` the candidate, whose ramp begins."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return operator_steps.start(plan, number, self._config, by=self._by, now_ms=now_ms)

        return self._change(step)

    def promote(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Makes `version` (None: the candidate) the stable one."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return operator_steps.promote(plan, number, self._config, by=self._by, now_ms=now_ms)

        return self._change(step)

    def rollback(self, *, now_ms: int) -> RolloutPlan:
        """Makes the stable version before this one stable again."""
        return self._change(partial(operator_steps.rollback, by=self._by, now_ms=now_ms))

    def approve(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Allows `version` (None: the candidate) to become stable when the evidence is for it."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(version, plan)
            return operator_steps.approve(plan, number, by=self._by, now_ms=now_ms)

        return self._change(step)

    def pin(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Holds all traffic at `version` (None: the stable one)."""

        def step(plan: RolloutPlan) -> PlanChange:
            number = self._stored_version(plan.stable if version is None else version, plan)
            return operator_steps.pin(plan, number, by=self._by, now_ms=now_ms)

        return self._change(step)

    def unpin(self, *, now_ms: int) -> RolloutPlan:
        """Lets candidates follow and be judged again."""
        return self._change(partial(operator_steps.unpin, by=self._by, now_ms=now_ms))

    def pause(self, *, now_ms: int) -> RolloutPlan:
        """Stops ramps and promotions; what is bad is withdrawn."""
        return self._change(partial(operator_steps.pause, by=self._by, now_ms=now_ms))

    def resume(self, *, now_ms: int) -> RolloutPlan:
        """Lets ramps and promotions go on."""
        return self._change(partial(operator_steps.resume, by=self._by, now_ms=now_ms))

    def _change(self, step: Callable[[RolloutPlan], PlanChange]) -> RolloutPlan:
        def stored_step(plan: RolloutPlan | None) -> PlanChange:
            return operator_steps.without_missing(step(_existing(plan)), self._store.versions.stored())

        after = change(self._store.plans, stored_step)
        assert after is not None, "an operator's step always changes something or raises"
        self._store.plans.sync()
        return after

    def _stored_version(self, version: int | None, plan: RolloutPlan) -> int:
        """Returns `version` (None: the candidate) where the store has it. Raises NotFound."""
        if version is None and not plan.candidate:
            raise NotPossible("there is no candidate; name a version (`lifelong versions` lists them)")
        number = plan.candidate if version is None else version
        self._store.versions.manifest(number)
        return number


def _existing(plan: RolloutPlan | None) -> RolloutPlan:
    if plan is None:
        raise NotPossible("no version was published yet, so there is no rollout; is the learner running?")
    return plan
