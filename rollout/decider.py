"""Takes answers and labels into the evidence, and puts into effect what follows from it.

    Answer, Feedback --refusal--> EvidenceWindow --> decide --> promote | withdraw --> RolloutPlan

No thread and no topic: `rollout/judge.py` reads these, and calls.
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
    """What was seen so far; `evidence` is in words. From `first_version` on (0: none) versions may be promoted."""

    first_version: int = 0
    evidence: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class Decider:
    """Owns the evidence. Verbs: take, decide, seen.

    `guard` are the learner's settings: what it would hold for its source does not count here either. `refusal` says
    why a label is not believed, "" where it is.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: RolloutConfig,
        guard: TrustConfig,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
        alarms: Alarms,
    ) -> None:
        self._store = store
        self._config = config
        self._refusal = refusal
        self._now_ms = now_ms
        self._alarms = alarms
        influence = Influence(guard, share=config.source_share)
        self._window = EvidenceWindow(config.max_unlabelled, influence, seed=secrets.randbits(32))

    def take(self, record: Answer | Feedback) -> bool:
        """Adds the record to the evidence; whether a label was judged."""
        before = self._window.counts["judged"]
        if isinstance(record, Answer):
            self._window.add_answer(record)
        elif reason := self._refusal(record):
            self._window.counts[f"label_{reason}"] += 1
        else:
            self._window.add_label(record)
        return self._window.counts["judged"] > before

    def decide(self) -> None:
        """Promotes or withdraws where the evidence says so. Raises WireError, NotPossible; it may be called again."""
        plan = self._store.plan()
        if plan is None or not self._comparable(plan):
            return
        evidence = self._window.evidence(stable_share=_share(plan))
        decision = decide(evidence, self._config)
        if isinstance(decision, Hold):
            log.debug("hold", reason=decision.reason)
            return
        if isinstance(decision, Promote):
            decision = self._of_stored(decision, evidence.first_version)
        after = change(self._store, lambda newest: self._step(newest, judged=plan, decision=decision))
        if after is not None:
            self._window.restart(since_revision=after.revision, stable_version=after.stable)
            log.info(type(decision).__name__.lower(), version=decision.version, reason=decision.reason)

    def seen(self) -> RolloutState:
        evidence = self._window.evidence(stable_share=1.0)
        return RolloutState(evidence.first_version, str(evidence), dict(self._window.counts))

    def _comparable(self, plan: RolloutPlan) -> bool:
        """Whether there are two arms to compare; begins anew when what is compared has changed."""
        if plan.pinned or not plan.candidate:
            self._window.restart(since_revision=plan.revision + 1, stable_version=plan.stable)
            return False
        if plan.stable != self._window.stable_version:
            self._window.restart(since_revision=plan.revision, stable_version=plan.stable)
        return True

    def _of_stored(self, decision: Promote, first_version: int) -> Promote:
        """Names the newest stored version among those that the decision is about; 0 where none is stored."""
        judged = range(first_version, decision.version + 1)
        return replace(decision, version=max((it for it in self._store.stored_versions() if it in judged), default=0))

    def _step(
        self, newest: RolloutPlan | None, *, judged: RolloutPlan, decision: Promote | Withdraw
    ) -> PlanChange | None:
        """The decision as a change of the newest plan; None when an operator has changed what was judged.

        None, and an alarm, too, where nothing of what was judged is stored; the store refuses what goes from now on.
        """
        if newest is None or newest.pinned or not newest.candidate or newest.stable != judged.stable:
            return None
        if isinstance(decision, Withdraw):
            return withdraw(newest, decision.version, reason=decision.reason, now_ms=self._now_ms())
        if not decision.version:
            self._alarms.raise_("promote", f"no version that has these labels is stored any more: {decision.reason}")
            return None
        self._alarms.clear("promote")
        return promote(newest, decision.version, reason=decision.reason, now_ms=self._now_ms())


def _share(plan: RolloutPlan) -> float:
    arm = plan.arm(STABLE)
    return arm.share if arm else 0.0
