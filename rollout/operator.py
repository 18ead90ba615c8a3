"""The operator's commands: status, promote, rollback, pin, unpin.

Each is one atomic write of the plan, so it works with the controller running or stopped; the controller reads the plan
again before it writes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rollout.change import change
from rollout.plans import NotPossible, PlanChange, pin, promote, rollback, unpin, without_missing
from wire.records import ControllerReport, LearnerReport, ReplicaReport, RolloutPlan, VersionEntry
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
    """The commands, for one person at one store."""

    def __init__(self, store: Store, *, name: str) -> None:
        self._store = store
        self._reason = f"asked for by {name}"

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

    def promote(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Makes `version` (None: the candidate) the stable one."""
        return self._change(
            lambda plan: promote(plan, self._stored_version(version, plan), reason=self._reason, now_ms=now_ms)
        )

    def rollback(self, *, now_ms: int) -> RolloutPlan:
        """Makes the stable version before this one stable again."""
        return self._change(lambda plan: rollback(plan, reason=self._reason, now_ms=now_ms))

    def pin(self, version: int | None, *, now_ms: int) -> RolloutPlan:
        """Holds all traffic at `version` (None: the stable one)."""
        return self._change(
            lambda plan: pin(
                plan, self._stored_version(plan.stable if version is None else version, plan), now_ms=now_ms
            )
        )

    def unpin(self, *, now_ms: int) -> RolloutPlan:
        """Lets candidates follow and be judged again."""
        return self._change(lambda plan: unpin(plan, now_ms=now_ms))

    def _change(self, step: Callable[[RolloutPlan], PlanChange]) -> RolloutPlan:
        after = change(
            self._store.plans, lambda plan: without_missing(step(_existing(plan)), self._store.versions.stored())
        )
        assert after is not None, "an operator's step always changes something or raises"
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
