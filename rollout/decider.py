"""Adds answers and labels to the evidence, and carries out what the rule decides.

    Answer, Feedback --refusal--> EvidenceWindow --> decide --> promote | withdraw --> RolloutPlan

There is no thread and no topic here: `rollout/judge.py` reads the records, and calls.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from rollout.alarms import Alarms
from rollout.change import change
from rollout.config import RolloutConfig
from rollout.evidence import EvidenceWindow
from rollout.influence import Influence
from rollout.plans import PlanChange, promote, withdraw
from rollout.rule import Hold, Promote, Withdraw, decide
from wire.config import TrustConfig
from wire.records import STABLE, Answer, Feedback, RolloutPlan
from wire.store import Store

log = structlog.get_logger("rollout")


@dataclass(frozen=True, slots=True)
class RolloutState:
    """The judge's state so far; `evidence` is in words. Versions from `first_version` on (0: none) may be promoted."""

    first_version: int = 0
    evidence: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class Decider:
    """Owns the evidence, and the alarms of judging by it. Verbs: add, decide, state.

    `trust` has the learner's settings: labels that the learner would hold for their source do not count here either.
    `refusal` returns why a label is not believed, "" where it is.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: RolloutConfig,
        trust: TrustConfig,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
    ) -> None:
        self.alarms = Alarms()
        self._store = store
        self._config = config
        self._refusal = refusal
        self._now_ms = now_ms
        influence = Influence(trust, share=config.source_share)
        self._window = EvidenceWindow(config.max_unlabelled, influence, seed=secrets.randbits(32))

    def add(self, record: Answer | Feedback) -> bool:
        """Adds the record to the evidence; returns whether a label was judged."""
        num_before = self._window.counts["judged"]
        if isinstance(record, Answer):
            self._window.add_answer(record)
        elif reason := self._refusal(record):
            self._window.counts[f"label_{reason}"] += 1
        else:
            self._window.add_label(record)
        return self._window.counts["judged"] > num_before

    def decide(self) -> None:
        """Promotes or withdraws where the evidence says so. Raises WireError and NotPossible, and may be called again
        then."""
        plan = self._store.plans.read()
        if plan is None or not self._has_two_arms(plan):
            return
        evidence = self._window.evidence(stable_share=_share(plan))
        decision = decide(evidence, self._config)
        if isinstance(decision, Hold):
            log.debug("hold", reason=decision.reason)
            return
        if isinstance(decision, Promote):
            decision = self._newest_stored(decision, evidence.first_version)
        after = change(self._store.plans, lambda in_force: self._change_for(in_force, judged=plan, decision=decision))
        if after is not None:
            self._window.restart(since_revision=after.revision, stable_version=after.stable)
            log.info(type(decision).__name__.lower(), version=decision.version, reason=decision.reason)

    def state(self) -> RolloutState:
        evidence = self._window.evidence(stable_share=1.0)
        return RolloutState(evidence.first_version, str(evidence), dict(self._window.counts))

    def _has_two_arms(self, plan: RolloutPlan) -> bool:
        """Whether there are two arms to compare. Restarts the evidence where the arms have changed."""
        if plan.pinned or not plan.candidate:
            self._window.restart(since_revision=plan.revision + 1, stable_version=plan.stable)
            return False
        if plan.stable != self._window.stable_version:
            self._window.restart(since_revision=plan.revision, stable_version=plan.stable)
        return True

    def _newest_stored(self, decision: Promote, first_version: int) -> Promote:
        """Returns the decision for the newest stored version among the judged ones; for 0 where none is stored."""
        judged = range(first_version, decision.version + 1)
        stored = [version for version in self._store.versions.stored() if version in judged]
        return replace(decision, version=max(stored, default=0))

    def _change_for(
        self, in_force: RolloutPlan | None, *, judged: RolloutPlan, decision: Promote | Withdraw
    ) -> PlanChange | None:
        """Returns the decision as a change of the plan in force; None where an operator has changed what was judged.

        Where none of the judged versions is stored, it raises an alarm and returns None. The store refuses the plan
        where a version is collected after this check.
        """
        if in_force is None or in_force.pinned or not in_force.candidate or in_force.stable != judged.stable:
            return None
        if isinstance(decision, Withdraw):
            return withdraw(in_force, decision.version, reason=decision.reason, now_ms=self._now_ms())
        if not decision.version:
            self.alarms.raise_("promote", f"no version that has these labels is stored any more: {decision.reason}")
            return None
        self.alarms.clear("promote")
        return promote(in_force, decision.version, reason=decision.reason, now_ms=self._now_ms())


def _share(plan: RolloutPlan) -> float:
    arm = plan.arm(STABLE)
    return arm.share if arm else 0.0
