"""Polls Redis for the state of the running service: the plan, the versions, the replicas' swaps.

    Store --(notice, or every quarter second)--> Watcher --> ServiceSnapshot --> player waits, view shows, figures count

A report has only the last few stalls, and old manifests are removed from the store. So the watcher polls often and
accumulates them.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from wire.errors import NotFound
from wire.records import Drift, Evaluation, LearnerReport, ReplicaReport, RolloutPlan, WeightManifest
from wire.store import Store

POLL_INTERVAL_S = 0.25
NUM_ENTRIES = 100
"""The number of entries of the history that are read in one poll. Fewer entries are written between two polls."""
MAX_STALLS = 10_000

DURABLE = "durable"
"""The last step of a publication, after the version is served: the wait until it is on the store's disk."""

MAX_VERSIONS = 10_000


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """The state of the service at one moment."""

    plan: RolloutPlan | None = None
    current: int = 0
    """The version from which the learner continues."""
    served: WeightManifest | None = None
    """The manifest of the stable version."""
    evaluation: Evaluation | None = None
    """The learner's evaluation of the current version."""
    through: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """The offsets up to which each version was trained, by version and `topic/partition`."""
    reports: tuple[ReplicaReport, ...] = ()
    replaced: int = 0
    """The number of replicas that appeared after the first ones. Each has replaced a replica that ended."""
    published: int = 0
    """The number of versions that were published so far."""
    swaps: int = 0
    stalls_ms: tuple[float, ...] = ()
    pauses_ms: tuple[float, ...] = ()
    read_ms: Mapping[int, int] = field(default_factory=dict)
    """The time at which the oldest label of a version was read, by version, for the versions in the seen reports."""
    durable_ms: tuple[float, ...] = ()
    """The times from serving a version until it was known to be on the store's disk, from the seen reports."""
    drifts: int = 0
    drift: Drift | None = None
    """The last drift that the learner detected."""
    is_rested: bool = True
    """Whether the learner has no work left, or there is no learner."""

    @property
    def stable(self) -> int:
        return self.plan.stable if self.plan else 0

    @property
    def is_rolled_out(self) -> bool:
        """Whether every replica follows the newest plan."""
        return self.follows(self.plan.revision if self.plan else 0)

    def follows(self, revision: int) -> bool:
        """Returns whether every replica follows the plan of `revision` or a later plan."""
        return bool(self.reports) and all(report.revision >= revision for report in self.reports)

    def covers(self, version: int, ends: Mapping[str, int]) -> bool:
        """Returns whether `version` was trained up to these offsets."""
        through = self.through.get(version, {})
        return version in self.through and all(through.get(source, 0) >= end for source, end in ends.items())

    def num_missing(self, ends: Mapping[str, int]) -> int:
        """Counts the records below these offsets on which the stable version was not trained."""
        through = self.through.get(self.stable, {})
        return sum(max(0, end - through.get(source, 0)) for source, end in ends.items())


class ServiceTotals:
    """Accumulates the reports: a report has only the last few swaps of a replica, or one publication."""

    def __init__(self) -> None:
        self._swaps_by_replica: dict[str, int] = {}
        self._version = 0
        self.swaps = 0
        self.stalls_ms: deque[float] = deque(maxlen=MAX_STALLS)
        self.pauses_ms: deque[float] = deque(maxlen=MAX_STALLS)
        self.read_ms: dict[int, int] = {}
        self.durable_ms: deque[float] = deque(maxlen=MAX_STALLS)

    def add_replica(self, report: ReplicaReport) -> None:
        """Adds the swaps since the last report of this replica, with their stalls and pauses."""
        before = self._swaps_by_replica.get(report.replica, 0)
        # A replica that reports fewer swaps than before was restarted.
        new = report.swaps - before if report.swaps >= before else report.swaps
        self._swaps_by_replica[report.replica] = report.swaps
        self.swaps += new
        if new:
            self.stalls_ms.extend(report.swap_stalls_ms[-new:])
            self.pauses_ms.extend(report.swap_pauses_ms[-new:])

    def add_learner(self, report: LearnerReport) -> None:
        """Adds the publication of the report's version, unless an earlier report has added it."""
        if report.version == self._version:
            return
        self._version = report.version
        if report.read_ms and len(self.read_ms) < MAX_VERSIONS:
            self.read_ms[report.version] = report.read_ms
        if durable_ms := report.publish_ms.get(DURABLE):
            self.durable_ms.append(durable_ms)


class Watcher:
    """Polls the store in a thread of its own until it is closed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._snapshot = ServiceSnapshot()
        self._totals = ServiceTotals()
        self._published: set[int] = set()
        self._replicas: set[str] = set()
        self._num_replicas = 0
        """The number of replicas in the first poll that found any."""
        self._closed = threading.Event()

    def run(self) -> None:
        """Polls until it is closed.

        consumes: plan, manifests, history and reports in Redis
        produces: ServiceSnapshot
        waits for: a notice of the store, at most `POLL_INTERVAL_S`
        unblocked by: `close`, within the same time
        """
        watch = self._store.watch()
        try:
            while not self._closed.is_set():
                self.poll()
                watch.wait(POLL_INTERVAL_S)
        finally:
            watch.close()

    def close(self) -> None:
        self._closed.set()

    def snapshot(self) -> ServiceSnapshot:
        with self._changed:
            return self._snapshot

    def wait(self, done: Callable[[ServiceSnapshot], bool], timeout_s: float) -> bool:
        """Waits until `done` returns true. Returns whether it did before the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: done(self._snapshot), timeout_s)

    def poll(self) -> None:
        """Polls once. Only one thread may call it at a time, because it accumulates reports."""
        plan = self._store.plans.read()
        current = self._store.versions.current()
        reports = tuple(self._store.reports.replicas())
        entries = self._store.versions.history(NUM_ENTRIES)
        self._published.update(entry.version for entry in entries if entry.action == "published")
        for report in reports:
            self._totals.add_replica(report)
        self._replicas.update(report.replica for report in reports)
        self._num_replicas = self._num_replicas or len(self._replicas)
        before = self.snapshot()
        learner = self._store.reports.learner()
        if learner is not None:
            self._totals.add_learner(learner)
        versions = {current, *(plan.versions if plan else ())}
        manifests = self._manifests(versions - {0, *before.through})
        served = self._served(plan, before, manifests)
        through = {version: manifest.trained_through for version, manifest in manifests.items()}
        after = replace(
            before,
            plan=plan,
            current=current,
            served=served,
            evaluation=manifests[current].evaluation if current in manifests else before.evaluation,
            through={**before.through, **through},
            reports=reports,
            replaced=len(self._replicas) - self._num_replicas,
            published=len(self._published),
            swaps=self._totals.swaps,
            stalls_ms=tuple(self._totals.stalls_ms),
            pauses_ms=tuple(self._totals.pauses_ms),
            read_ms=dict(self._totals.read_ms),
            durable_ms=tuple(self._totals.durable_ms),
            drifts=learner.num_drifts if learner else before.drifts,
            drift=learner.drifts[-1] if learner and learner.drifts else before.drift,
            is_rested=learner is None or learner.is_rested,
        )
        with self._changed:
            self._snapshot = after
            self._changed.notify_all()

    def _manifests(self, versions: set[int]) -> dict[int, WeightManifest]:
        manifests = {}
        for version in versions:
            try:
                manifests[version] = self._store.versions.manifest(version)
            except NotFound:
                # The version was withdrawn and removed between two commands of this poll.
                continue
        return manifests

    def _served(
        self, plan: RolloutPlan | None, before: ServiceSnapshot, manifests: Mapping[int, WeightManifest]
    ) -> WeightManifest | None:
        stable = plan.stable if plan else 0
        if before.served is not None and before.served.version == stable:
            return before.served
        if stable in manifests or not stable:
            return manifests.get(stable)
        return self._manifests({stable}).get(stable)
