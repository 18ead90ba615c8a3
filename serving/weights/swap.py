"""Hot swap: follows the plan, loads its versions while the live ones answer, and activates them by one assignment.

    plan -> its versions -> Loader.load, one at a time -> Engine.activate(ActiveVersions) -> report

WAITING (for a change of the store) -> LOADING (the versions that a plan needs) -> WAITING, until CLOSED.

A refused version is not tried again for a while (`serving/weights/refusals.py`). If the stable version is refused,
another version answers instead of it (a stand-in): the newest loaded version, or if none is loaded, the newest stored
version that can be loaded. If a plan needs no new version, it is activated without fetching anything. This is the case
if only the shares change, for a promotion, and for a rollback to the previous version, which stays loaded.

Rejected: Ray Serve's `reconfigure` (a bad version would stop the replica, and replicas follow in waves), and notices
from the store as the only trigger (a lost notice would leave a replica behind, so every poll reads the plan).
"""

import threading
import time
from collections.abc import Callable
from enum import Enum

import structlog

from serving.encodings import Health
from serving.engine import Engine
from serving.errors import NotYet, Unhealthy, VersionRefused
from serving.models import ActiveVersions, servable_part
from serving.weights.disk import FollowedPlan
from serving.weights.loader import Loader
from serving.weights.refusals import PLAN, Refusals, map_load_errors
from wire.errors import StoreUnavailable, UnsafePolicy
from wire.records import ReplicaReport, RolloutPlan, VersionHealth
from wire.store import Store, Watch
from wire.threads import BackgroundThread
from wire.timestamps import now_ms

log = structlog.get_logger("swap")


class SwapState(Enum):
    WAITING = "waiting"
    LOADING = "loading"
    CLOSED = "closed"


class Swap:
    """Keeps the versions of a task's current plan live in the engine, and reports them. Runs one thread; `close` ends
    it."""

    def __init__(
        self,
        store: Store,
        loader: Loader,
        engine: Engine,
        *,
        refusal_retry_s: float,
        report_interval_s: float,
        report: Callable[[], ReplicaReport],
        followed: FollowedPlan | None = None,
    ) -> None:
        self._followed = followed or FollowedPlan()
        self._task = self._followed.task
        self._store = store
        self._loader = loader
        self._engine = engine
        self._report_interval_s = report_interval_s
        self._report = report
        self._health = Health()
        self._refusals = Refusals(retry_s=refusal_retry_s)
        self._store_error = ""
        self._next_report_s = 0.0
        self._state = SwapState.WAITING
        # Set when the first weights are live, or when it is known that the store has none that can be loaded.
        self._first_known = threading.Event()
        self._thread = BackgroundThread(self._run, name=f"swap {self._task}".rstrip())

    def start(self) -> None:
        self._thread.start()

    @property
    def state(self) -> SwapState:
        return self._state

    @property
    def refused(self) -> dict[str, int]:
        """The number of refused versions, by reason."""
        return self._refusals.counts

    @property
    def health(self) -> tuple[VersionHealth, ...]:
        """The counts of answers, failures and slow forward passes of the live versions."""
        return self._health.report()

    @property
    def damaged(self) -> tuple[str, ...]:
        """The digests of damaged blobs. Only the swap's own thread may read it, for its report."""
        return self._refusals.damaged

    @property
    def model_bytes(self) -> dict[str, int]:
        """The bytes of each loaded version by number, and of all tensors (`resident`). Only the swap's thread may read
        it, for its report."""
        return self._loader.num_bytes

    def check(self) -> None:
        """Raises Unhealthy if the thread has ended without `close`."""
        self._thread.check(Unhealthy)

    def close(self) -> None:
        """Ends the thread. The live weights stay in the engine."""
        self._thread.close()
        self._state = SwapState.CLOSED

    def await_first(self, timeout_s: float) -> bool:
        """Waits until the first weights are live, or no stored weights can be loaded.

        Returns False after `timeout_s` seconds.
        """
        return self._first_known.wait(timeout_s)

    def follow_plan(self) -> None:
        """Loads and activates the versions of the current plan, as far as possible. Raises StoreUnavailable."""
        plan = self._read_plan()
        if plan is None:
            self._first_known.set()
            return
        followed = self._followed.last
        # Another salt means that the store was wiped: the numbers may name other versions now.
        if followed is not None and plan.salt != followed.salt:
            self._loader.clear()
        if plan != followed or any(map(self._must_load, plan.needed)):
            self._load_and_activate(plan)
        self._followed.note(plan)
        self._first_known.set()
        self._followed.cache.save(plan, self._loader)

    def _run(self) -> None:
        """Follows the plan until closed.

        consumes: RolloutPlan and WeightManifest, from the store
        produces: ActiveVersions, activated in the engine; ReplicaReport, about every `report_interval_s`
        waits for: a change of the store, at most until the next report
        unblocked by: a notice, the poll of the watch, close at the next of them
        """
        watch: Watch | None = None
        while not self._thread.closing.is_set():
            try:
                watch = watch or self._connect()
                self.follow_plan()
                self._report_when_due()
            except (StoreUnavailable, UnsafePolicy) as error:
                self._log_store_error(str(error))
                self._start_from_cache()
                self._thread.closing.wait(self._report_interval_s)
            else:
                self._log_store_error("")
                if watch.wait(max(0.0, self._next_report_s - time.monotonic())):
                    self._refusals.retry_damaged()
        if watch is not None:
            watch.close()

    def _connect(self) -> Watch:
        """Opens a watch. Raises UnsafePolicy if the server may evict blobs that this replica needs."""
        self._store.check_policy()
        return self._store.watch()

    def _log_store_error(self, error: str) -> None:
        """Logs that the store is unavailable when this begins, and that it is available again when `error` is ""."""
        if error and error != self._store_error:
            log.warning("store_unavailable", error=error)
        if self._store_error and not error:
            log.info("store_available")
        self._store_error = error

    def _read_plan(self) -> RolloutPlan | None:
        try:
            with map_load_errors():
                plan = self._store.plans.read()
            if plan is not None:
                self._followed.check(plan)
        except VersionRefused as error:
            self._refusals.add(PLAN, error)
            return None
        self._refusals.clear(PLAN)
        return plan

    def _start_from_cache(self) -> None:
        """Activates the versions on disk, if no version is live yet."""
        if self._engine.live_versions(self._task) is None and (plan := self._followed.cache.load(self._loader)):
            self._activate(plan)

    def _load_and_activate(self, plan: RolloutPlan) -> None:
        self._state = SwapState.LOADING
        tried = plan.needed
        try:
            self._loader.drop_replaced(plan.needed)
            for number in tried:
                self._load(number)
                # The very first weights answer as soon as they are loaded.
                is_due = self._engine.live_versions(self._task) is None or number == plan.versions[-1]
                if is_due and plan.stable in self._loader.versions:
                    self._activate(plan)
            if not self._loader.versions:
                tried += self._load_stand_in()
            self._activate(plan)
        finally:
            self._state = SwapState.WAITING
        live = self._engine.live_versions(self._task)
        # Live versions stay loaded, even if the plan no longer needs them.
        kept = {*plan.needed, *(live.versions if live else ())}
        self._refusals.keep({*kept, *tried})
        self._loader.keep((kept & self._loader.versions.keys()) | self._refusals.damaged_versions)

    def _must_load(self, number: int) -> bool:
        """Whether the version is not loaded, and may be tried now."""
        return number not in self._loader.versions and not self._refusals.must_wait(number)

    def _load(self, number: int) -> None:
        """Loads a version, unless it is loaded already or must not be tried now. Raises StoreUnavailable."""
        if not self._must_load(number):
            return
        started_s = time.monotonic()
        # The encoders of the versions that were loaded before.
        encoders = {version.model.encoder for version in self._loader.versions.values()}
        try:
            version = self._loader.load(number)
        except VersionRefused as error:
            self._refusals.add(number, error)
            return
        except NotYet:
            return
        self._refusals.clear(number)
        log.info("version_loaded", version=number, ms=round(1e3 * (time.monotonic() - started_s), 1))
        # Loading a new encoder slows the next batch (processor, caches). So that batch should still run under the old
        # plan.
        if self._engine.live_versions(self._task) is not None and version.model.encoder not in encoders:
            self._engine.await_next_batch()

    def _load_stand_in(self) -> tuple[int, ...]:
        """Loads the newest stored version that is not refused. Returns all stored versions, the newest first."""
        stored = tuple(reversed(self._store.versions.stored()))
        for number in stored:
            self._load(number)
            if self._loader.versions:
                break
        return stored

    def _activate(self, plan: RolloutPlan) -> None:
        live = self._engine.live_versions(self._task)
        loaded = self._loader.versions
        if (served_plan := servable_part(plan, loaded)) is None:
            return
        versions = {number: loaded[number] for number in served_plan.needed if number in loaded}
        # Nothing changes.
        if live is not None and served_plan == live.plan and versions.keys() == live.versions.keys():
            return
        number = live.number + 1 if live else 1
        active = ActiveVersions(
            number=number, plan=served_plan, versions=versions, health=self._health, since_ms=now_ms(), task=self._task
        )
        # The counters must know the versions before the engine answers with them.
        encoders = {number: versions[number].model.encoder for number in served_plan.versions}
        self._health.follow(encoders, active.stand_in or served_plan.stable)
        num_swaps = self._engine.activate(active, self._task)
        self._first_known.set()
        # The report waits, so that it does not delay the first batch under the new plan.
        self._engine.await_batch(num_swaps)
        self._next_report_s = 0.0
        log.info("swapped", task=self._task, revision=served_plan.revision, versions=list(served_plan.versions))
        if active.stand_in and (live is None or live.stand_in != active.stand_in):
            log.error("stand_in", task=self._task, stable=plan.stable, answering=active.stand_in)

    def _report_when_due(self) -> None:
        if time.monotonic() >= self._next_report_s:
            self._next_report_s = time.monotonic() + self._report_interval_s
            self._store.reports.write_replica(self._report())
