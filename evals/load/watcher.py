"""What Redis shows of the running service: the plan, the versions, the replicas' swaps.

    Store --(notice, or every quarter second)--> Watcher --> ServiceSnapshot --> player waits, view shows, figures count

A report keeps only the last few stalls, and old manifests are removed: so the watcher looks often and adds up.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from wire.errors import NotFound
from wire.records import Drift, Evaluation, ReplicaReport, RolloutPlan, WeightManifest
from wire.store import Store

LOOK_S = 0.25
NUM_ENTRIES = 100
"""Entries of the history that are read in one look; more do not come between two."""
MAX_STALLS = 10_000


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """One look. `through` has, by version, the offsets it was trained through; `served` is the stable manifest,
    `evaluation` what the learner measured of the newest one, and `drift` the last that it found. `is_rested`: the
    learner has nothing left to do, or there is none."""

    plan: RolloutPlan | None = None
    newest: int = 0
    served: WeightManifest | None = None
    evaluation: Evaluation | None = None
    through: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    reports: tuple[ReplicaReport, ...] = ()
    published: int = 0
    swaps: int = 0
    stalls_ms: tuple[float, ...] = ()
    pauses_ms: tuple[float, ...] = ()
    drifts: int = 0
    drift: Drift | None = None
    is_rested: bool = True

    @property
    def stable(self) -> int:
        return self.plan.stable if self.plan else 0

    @property
    def is_taken(self) -> bool:
        """Whether every replica follows the newest plan."""
        revision = self.plan.revision if self.plan else 0
        return bool(self.reports) and all(report.revision >= revision for report in self.reports)

    def covers(self, version: int, ends: Mapping[str, int]) -> bool:
        """Whether `version` was trained through these offsets."""
        through = self.through.get(version, {})
        return version in self.through and all(through.get(source, 0) >= end for source, end in ends.items())

    def lacking(self, ends: Mapping[str, int]) -> int:
        """How many records below these offsets the stable version has not seen."""
        through = self.through.get(self.stable, {})
        return sum(max(0, end - through.get(source, 0)) for source, end in ends.items())


class Swaps:
    """Adds up the flips of all replicas."""

    def __init__(self) -> None:
        self._of_replica: dict[str, int] = {}
        self.total = 0
        self.stalls_ms: deque[float] = deque(maxlen=MAX_STALLS)
        self.pauses_ms: deque[float] = deque(maxlen=MAX_STALLS)

    def add(self, report: ReplicaReport) -> None:
        """Takes what is new in a report: the stalls of the swaps since the last one of this replica, and the pauses."""
        before = self._of_replica.get(report.replica, 0)
        new = report.swaps - before if report.swaps >= before else report.swaps  # fewer: it has started again
        self._of_replica[report.replica] = report.swaps
        self.total += new
        if new:
            self.stalls_ms.extend(report.swap_stalls_ms[-new:])
            self.pauses_ms.extend(report.swap_pauses_ms[-new:])


class Watcher:
    """Looks at the store in a thread of its own until it is closed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._sight = ServiceSnapshot()
        self._swaps = Swaps()
        self._published: set[int] = set()
        self._closed = threading.Event()

    def run(self) -> None:
        """Looks again and again.

        consumes: plan, manifests, history and reports in Redis
        produces: ServiceSnapshot
        waits for: a notice of the store, at most `LOOK_S`
        unblocked by: `close`, within the same time
        """
        watch = self._store.watch()
        try:
            while not self._closed.is_set():
                self.look()
                watch.wait(LOOK_S)
        finally:
            watch.close()

    def close(self) -> None:
        self._closed.set()

    def sight(self) -> ServiceSnapshot:
        with self._changed:
            return self._sight

    def wait(self, done: Callable[[ServiceSnapshot], bool], timeout_s: float) -> bool:
        """Whether `done` came true within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: done(self._sight), timeout_s)

    def look(self) -> None:
        """Looks once. From one thread at a time: it adds up."""
        plan = self._store.plan()
        newest = self._store.current()
        reports = tuple(self._store.reports())
        entries = self._store.history(NUM_ENTRIES)
        self._published.update(entry.version for entry in entries if entry.action == "published")
        for report in reports:
            self._swaps.add(report)
        before = self.sight()
        learner = self._store.learner_report()
        manifests = self._manifests({newest, *(plan.versions if plan else ())} - {0, *before.through})
        served = self._served(plan, before, manifests)
        after = replace(
            before,
            plan=plan,
            newest=newest,
            served=served,
            evaluation=manifests[newest].evaluation if newest in manifests else before.evaluation,
            through={**before.through, **{version: each.trained_through for version, each in manifests.items()}},
            reports=reports,
            published=len(self._published),
            swaps=self._swaps.total,
            stalls_ms=tuple(self._swaps.stalls_ms),
            pauses_ms=tuple(self._swaps.pauses_ms),
            drifts=learner.num_drifts if learner else before.drifts,
            drift=learner.drifts[-1] if learner and learner.drifts else before.drift,
            is_rested=learner is None or learner.is_rested,
        )
        with self._changed:
            self._sight = after
            self._changed.notify_all()

    def _manifests(self, versions: set[int]) -> dict[int, WeightManifest]:
        found = {}
        for version in versions:
            try:
                found[version] = self._store.manifest(version)
            except NotFound:  # withdrawn and removed between two commands of this look
                continue
        return found

    def _served(
        self, plan: RolloutPlan | None, before: ServiceSnapshot, manifests: Mapping[int, WeightManifest]
    ) -> WeightManifest | None:
        stable = plan.stable if plan else 0
        if before.served is not None and before.served.version == stable:
            return before.served
        return manifests.get(stable) or (self._manifests({stable}).get(stable) if stable else None)
