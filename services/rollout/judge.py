"""Judges the candidate on the labels that come back, and writes what follows from them.

    answers.v1, feedback.v1 --refusal--> EvidenceWindow --> decide --> promote | withdraw --> RolloutPlan

The evidence is not kept over a restart, nor over a fault of Kafka: the judge begins at the end of the topics and asks
for new labels.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from types import TracebackType

import structlog

from services.rollout.change import change
from services.rollout.config import RolloutConfig
from services.rollout.evidence import EvidenceWindow
from services.rollout.plans import Change, promote, withdraw
from services.rollout.rule import Hold, Promote, Withdraw, decide
from wire.bus import Bus, Followed
from wire.errors import WireError
from wire.records import STABLE, Answer, Feedback, RolloutPlan
from wire.store import Store

POLL_MS = 100
PAUSE_S = 1.0
"""Pause after a door failed, before it is tried again."""

log = structlog.get_logger("rollout")


class Judge:
    """A thread that follows answers and labels from now on. Verbs: check, close.

    `refusal` says why a label is not believed, "" where it is; see `wire.receipts`.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        *,
        config: RolloutConfig,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._config = config
        self._refusal = refusal
        self._now_ms = now_ms
        self._window = EvidenceWindow(config.max_unlabelled)
        self._bus = bus
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)

    def __enter__(self) -> "Judge":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self) -> None:
        """Raises RuntimeError when the thread has ended by itself."""
        if not self._thread.is_alive():
            raise RuntimeError("the judge ended by itself; the log says why")

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        """Judges until it is closed.

        consumes: Answer and Feedback, from the end of their topics
        produces: RolloutPlan (promoted or withdrawn)
        waits for: a record, at most POLL_MS
        unblocked by: close, seen within the same time
        """
        while not self._closing.is_set():
            try:
                ends = self._bus.end_offsets(Answer, Feedback)
                with closing(self._bus.follow((Answer, Feedback), ends, is_patient=True)) as follower:
                    while not self._closing.is_set():
                        if self._take(follower.poll(POLL_MS)):
                            self._judge()
            except WireError as error:
                log.warning("judge_interrupted", error=str(error))
                self._closing.wait(PAUSE_S)

    def _take(self, followed: Followed) -> bool:
        """Adds what came to the evidence; whether a label was judged."""
        before = self._window.counts["judged"]
        for received in followed.received:
            record = received.record
            if isinstance(record, Answer):
                self._window.add_answer(record)
            elif reason := self._refusal(record):
                self._window.counts[f"label_{reason}"] += 1
            else:
                self._window.add_label(record)
        if followed.refused:
            self._window.counts["refused"] += len(followed.refused)
            log.warning("refused", count=len(followed.refused), reason=followed.refused[0].dead_letter.reason)
        return self._window.counts["judged"] > before

    def _judge(self) -> None:
        plan = self._store.plan()
        if plan is None or not self._comparable(plan):
            return
        decision = decide(self._window.evidence(stable_share=_share(plan)), self._config)
        if isinstance(decision, Hold):
            log.debug("hold", reason=decision.reason)
            return
        after = change(self._store, lambda newest: self._step(newest, judged=plan, decision=decision))
        if after is not None:
            self._window.restart(since_revision=after.revision, stable_version=after.stable)
            log.info(type(decision).__name__.lower(), version=decision.version, reason=decision.reason)

    def _comparable(self, plan: RolloutPlan) -> bool:
        """Whether there are two arms to compare; begins anew when what is compared has changed."""
        if plan.pinned or not plan.candidate:
            self._window.restart(since_revision=plan.revision + 1, stable_version=plan.stable)
            return False
        if plan.stable != self._window.stable_version:
            self._window.restart(since_revision=plan.revision, stable_version=plan.stable)
        return True

    def _step(self, newest: RolloutPlan | None, *, judged: RolloutPlan, decision: Promote | Withdraw) -> Change | None:
        """The decision as a change of the newest plan; None when an operator has changed what was judged."""
        if newest is None or newest.pinned or not newest.candidate or newest.stable != judged.stable:
            return None
        step = promote if isinstance(decision, Promote) else withdraw
        return step(newest, decision.version, reason=decision.reason, now_ms=self._now_ms())


def _share(plan: RolloutPlan) -> float:
    arm = plan.arm(STABLE)
    return arm.share if arm else 0.0
