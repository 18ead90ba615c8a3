"""The rollout controller: gives each new version traffic, and lets labels decide about candidates.

    notice of a version --> Controller --+
                                ^        +--> RolloutPlan (compare and swap, in Redis)
                                | RolloutState   |
    answers, labels ---------> Judge ----+

Controller and judge run in their own threads, and share only the plan in Redis. Both write it by compare and swap: if
the other one has changed it, they read it again. So labels and versions never wait for each other, and there is no
lock. One controller leads, under the lease `rollout`. The others wait until the lease expires.

A version becomes stable as soon as it is published if both conditions hold:

- by the numbers in its manifest, `rollout.publication_rule` finds it better than the reference, or not worse;
- the judge has no objection, because labels may show that the present versions are worse.

Any other version goes to the newest arm. If there is no candidate, it also becomes the candidate.

A step that fails raises an alarm and is retried. If Redis is unreachable or full, the leading controller keeps its
lease and its evidence. This is safe, because it writes a plan only by compare and swap. The controller collects garbage
before it renews the lease, and a waiting controller, too, frees memory on a server that is nearly full.
`versions_to_keep` decides which versions stay.
"""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from functools import partial

import structlog

from rollout.alarms import Alarms
from rollout.config import RolloutConfig
from rollout.decider import RolloutState
from rollout.judge import Judge
from rollout.plans import PlanChange, Rationale, change, follow_current, heal, make_stable
from rollout.publication_rule import decide, moves_reference
from rollout.reports import with_bounds
from wire.errors import StoreUnavailable
from wire.records import ControllerReport, RolloutPlan
from wire.store import Lease, Store, VersionContents, Watch

LEASE = "rollout"
RETRY_S = 1.0
"""Pause before a failed step is retried, and between two starts of the judge."""

MEMORY_SHARE = 4
"""Kept versions take at most 1 / MEMORY_SHARE of the server's memory."""

log = structlog.get_logger("rollout")


class Controller:
    """Leads the rollout while it holds the lease. Verbs: run; a leader's steps are follow_current and collect.

    `open_judge` starts a judge that continues from the tallies in the store.
    """

    def __init__(
        self,
        store: Store,
        open_judge: Callable[[], Judge],
        *,
        config: RolloutConfig,
        holder: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._open_judge = open_judge
        self._config = config
        self._holder = holder
        self._now_ms = now_ms
        self._renewal_s = config.lease_ms / 3_000
        self._collect_at_s = 0.0
        self._judge_started_s = 0.0
        self._alarms = Alarms()

    def run(self, stop: threading.Event) -> None:
        """Leads whenever no other controller leads, until `stop` is set.

        consumes: the lease `rollout`
        produces: one leadership at a time
        waits for: a notice of the store, at most a third of the lease
        unblocked by: `stop`, seen within the same time
        """
        while not stop.is_set():
            with self._alarms.attempt("stand_by"), closing(self._store.watch()) as watch:
                self._stand_by(watch, stop)
            stop.wait(RETRY_S)

    def _stand_by(self, watch: Watch, stop: threading.Event) -> None:
        """Waits for the lease, and frees memory on the server meanwhile.

        consumes: the lease `rollout`
        produces: a leadership
        waits for: a notice of the store, at most a third of the lease
        unblocked by: `stop`, seen within the same time

        Raises UnsafePolicy if the server may evict blobs that a plan names.
        """
        self._store.check_policy()
        while not stop.is_set():
            if self._is_collection_due():
                with self._alarms.attempt("make_room"):
                    self._store.collector.make_room()
            lease = self._store.leases.acquire(LEASE, self._holder, self._config.lease_ms)
            if lease is None:
                watch.wait(self._renewal_s)
            else:
                self._lead(lease, watch, stop=stop)

    def _lead(self, lease: Lease, watch: Watch, *, stop: threading.Event) -> None:
        """Leads until `stop` is set or the lease is lost, and runs a judge meanwhile.

        consumes: notices of published versions
        produces: RolloutPlan (the first version, a candidate, a repaired plan)
        waits for: a notice, at most a third of the lease
        unblocked by: `stop`, or a lost lease
        """
        log.info("leading", holder=self._holder)
        self._collect_at_s = 0.0
        judge = self._new_judge()
        try:
            while not stop.is_set():
                # Collection comes before the renewal, which fails on a full server.
                if self._is_collection_due():
                    with self._alarms.attempt("collect"):
                        self.collect()
                if not self._still_leads(lease):
                    break
                if judge.is_alive():
                    self._alarms.clear("judge_thread")
                elif time.monotonic() > self._judge_started_s + RETRY_S:
                    self._alarms.raise_("judge_thread", "the judge's thread ended, and is started again")
                    judge = self._new_judge()
                with self._alarms.attempt("follow"):
                    self.follow_current(judge.state.objection)
                with self._alarms.attempt("report"):
                    self._report(judge.state, judge.alarms)
                watch.wait(self._renewal_s)
        finally:
            judge.close()
        self._store.leases.release(lease)

    def follow_current(self, objection: str = "") -> None:
        """Gives the current version traffic, or repairs a plan that names versions that are not stored.

        `objection` is the reason why the version may not become stable at once ("": it may).
        """
        plan = change(self._store.plans, partial(self._next_change, objection=objection))
        if plan is not None:
            log.info("following", revision=plan.revision, stable=plan.stable, newest=plan.newest, why=plan.reason)

    def collect(self) -> int:
        """Removes the versions and blobs that neither the plan nor the learner needs; returns how many it removed.

        This needs no lease, because each collection reads the plan in force.
        """
        plan = self._store.plans.read()
        current = self._store.versions.current()
        if plan is None:
            return 0
        limit = self._store.max_memory()
        budget = min(self._config.keep_bytes, limit // MEMORY_SHARE) if limit else self._config.keep_bytes
        keep = versions_to_keep(
            self._store.versions.contents(),
            needed={*plan.needed, current},
            current=current,
            num_newest=self._config.keep_versions,
            budget_bytes=budget,
        )
        removed = self._store.collector.collect(keep)
        if removed:
            log.info("collected", removed=removed, kept=len(keep))
        return removed

    def _new_judge(self) -> Judge:
        self._judge_started_s = time.monotonic()
        return self._open_judge()

    def _still_leads(self, lease: Lease) -> bool:
        """Whether the lease is still ours. If the server is unreachable, it is: nobody else could get it."""
        try:
            is_ours = self._store.leases.renew(lease)
        except StoreUnavailable as error:
            self._alarms.raise_("renew", str(error))
            return True
        self._alarms.clear("renew")
        return is_ours

    def _next_change(self, plan: RolloutPlan | None, *, objection: str) -> PlanChange | None:
        current = self._store.versions.current()
        now_ms = self._now_ms()
        if plan is not None:
            healed = heal(plan, stored=self._store.versions.stored(), current=current, now_ms=now_ms)
            if healed is not None:
                return healed
        if plan is not None and not objection and self._may_become_stable(plan, current):
            changes = self._store.versions.manifest(current).name_changes
            ruling = decide(changes)
            if changes.reference == plan.reference and ruling.rule:
                moves = moves_reference(changes)
                return make_stable(plan, current, Rationale.from_ruling(ruling), moves_reference=moves, now_ms=now_ms)
        return follow_current(plan, current, self._config, salt=secrets.token_hex(8), now_ms=now_ms)

    def _may_become_stable(self, plan: RolloutPlan, version: int) -> bool:
        """Whether the plan allows `version` to become stable at once. The numbers in its manifest must allow it, too.

        The plan does not allow it while an imported candidate is on trial. `version` does not descend from that
        candidate, so the trial would end without a result.
        """
        is_blocked = plan.pinned or plan.paused or self._config.approval == "by_hand"
        is_blocked = is_blocked or (plan.candidate > 0 and self._store.versions.is_imported(plan.candidate))
        return not is_blocked and plan.reference > 0 and version > plan.stable and version not in plan.versions

    def _report(self, state: RolloutState, judge_alarms: Alarms) -> None:
        label_to_live_counts, label_to_live_sum_ms = state.label_to_live
        self._store.reports.write_controller(
            ControllerReport(
                controller=self._holder,
                time_ms=self._now_ms(),
                evidence=state.evidence,
                waits_for=state.waits_for,
                label_rates=state.label_rates,
                arm_accuracies=tuple(map(with_bounds, state.arm_counts)),
                label_to_live_counts=label_to_live_counts,
                label_to_live_sum_ms=label_to_live_sum_ms,
                swap_skews_ms=state.swap_skews_ms,
                counts={**state.counts, **self._alarms.counts, **judge_alarms.counts},
                alarms=(*self._alarms.active(), *judge_alarms.active()),
            )
        )

    def _is_collection_due(self) -> bool:
        if time.monotonic() < self._collect_at_s:
            return False
        self._collect_at_s = time.monotonic() + self._config.collect_interval_s
        return True


def versions_to_keep(
    stored: Mapping[int, VersionContents], *, needed: Collection[int], current: int, num_newest: int, budget_bytes: int
) -> set[int]:
    """Returns the versions that garbage collection keeps. Pure. `current` is the version from which the learner
    continues.

    It keeps

    - the `needed` versions: those of the plan, of a rollback, the reference, and the learner's;
    - the newest `num_newest` other versions, except versions that a rollback has undone. Fewer are kept if not all fit
      into `budget_bytes`; a blob that several versions share is counted once. Late labels do not need these versions,
      because labels promote only versions of the plan.

    A version from before an erasure was trained on erased data, so it is kept only if it is needed.
    """
    erased = max((version.erased for version in stored.values()), default=0)
    clean = sorted(number for number, version in stored.items() if version.erased == erased and number <= current)
    while num_newest:
        chosen = {*needed, *clean[-num_newest:]} & stored.keys()
        if _distinct_bytes(stored[number] for number in chosen) <= budget_bytes:
            return chosen
        num_newest //= 2
    return set(needed) & stored.keys()


def _distinct_bytes(versions: Iterable[VersionContents]) -> int:
    sizes: dict[str, int] = {}
    for version in versions:
        sizes.update(version.blobs)
    return sum(sizes.values())
