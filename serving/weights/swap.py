"""Takes new weights: watches the plan, loads what it names beside the live weights, and flips by one assignment.

    plan -> wanted versions -> Loader (fetch, verify, pack, probe) -> latencies of its precisions, where they are
    not known -> engine.live = ActiveVersions(plan, versions) -> report

WAITING -> LOADING -> WAITING, until CLOSED. A version that is refused is counted by its reason, logged once, and left
alone for a while (`serving/weights/refusals.py`). Where it is the stable one, another stands in for it: the newest
version that is loaded, else the newest stored one that can be. A plan that needs nothing new (other shares, a
promotion, a rollback to the version before, which stays resident) flips without a fetch.

Whoever may write to the store can put an old signed plan back, so one that was in force before ours is refused.

Rejected: `reconfigure` of Ray Serve (a bad version would stop the replica; replicas follow in waves), and notices as
the only path (a lost one would leave a replica behind: the plan is read at every poll anyway).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import structlog

from serving.config import PrecisionConfig
from serving.engine import Engine
from serving.errors import Unhealthy, VersionRefused
from serving.weights.active import ActiveVersions, Version, is_older, servable
from serving.weights.latency import NOT_MEASURED, LatencyTable, measure
from serving.weights.loader import Loader, refusing
from serving.weights.precision import AUTO, allowed
from serving.weights.refusals import PLAN, Refusals
from wire.errors import StoreUnavailable, UnsafePolicy
from wire.records import ReplicaReport, RolloutPlan
from wire.store import Store, Watch

LOAD_REST_S = 0.02
"""Pause between a load and the flip: what the load stirred up (store, processor, caches) is over when the next batch
comes. It halves the longest stalls on two cores."""

FLIP_REST_S = 0.002
MAX_FLIP_RESTS = 25
"""Pauses after a flip, until a batch has begun under the new plan: it needs interpreter and processor more than our
report does."""

log = structlog.get_logger("swap")


class SwapState(Enum):
    WAITING = "waiting"
    LOADING = "loading"
    CLOSED = "closed"


class Swap:
    """Keeps `engine.live` at what the plan says, and reports it. One thread; `close` ends it."""

    def __init__(
        self,
        store: Store,
        loader: Loader,
        engine: Engine,
        *,
        precision: PrecisionConfig,
        refusal_retry_s: float,
        report_interval_s: float,
        report: Callable[[], ReplicaReport],
    ) -> None:
        self._store = store
        self._loader = loader
        self._engine = engine
        self._precision = precision
        self._report_interval_s = report_interval_s
        self._report = report
        self._plan: RolloutPlan | None = None
        self._versions: dict[int, Version] = {}
        self._refusals = Refusals(retry_s=refusal_retry_s)
        self._trouble = ""
        self._next_report_s = 0.0
        self._state = SwapState.WAITING
        self._has_looked = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="swap", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def state(self) -> SwapState:
        return self._state

    @property
    def refused(self) -> dict[str, int]:
        """How many versions were not taken, by reason."""
        return self._refusals.counts

    @property
    def damaged(self) -> tuple[str, ...]:
        """The digests of damaged blobs. Only for the report, which the swap's own thread makes."""
        return self._refusals.damaged

    @property
    def model_bytes(self) -> dict[str, int]:
        """Bytes of each resident version, by number, and of all their tensors together (`resident`).

        Only for the report, which the swap's own thread makes.
        """
        sizes = {str(number): version.num_bytes for number, version in self._versions.items()}
        return sizes | {"resident": self._loader.num_bytes}

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        if not self._thread.is_alive():
            raise Unhealthy("the swap has ended")

    def close(self) -> None:
        """Ends the thread; what is live stays."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._state = SwapState.CLOSED

    def await_first(self, timeout_s: float) -> bool:
        """Waits for the first weights, or until there is known to be no plan; False when `timeout_s` was over first.

        It waits on where a version is refused: another one, or the repair of this one, may be there soon.
        """
        return self._has_looked.wait(timeout_s)

    def look(self) -> None:
        """Takes what the plan in force wants, as far as it may. Raises StoreUnavailable."""
        plan = self._read_plan()
        if plan is None:
            self._has_looked.set()
            return
        if self._plan is not None and plan.salt != self._plan.salt:
            self._versions = {}  # numbers may mean other versions now; their tensors are known by digest
        if plan != self._plan or self._missing(plan):
            self._take(plan)
        self._plan = plan

    def _run(self) -> None:
        """Follows the plan until closed.

        consumes: RolloutPlan and WeightManifest, from the store
        produces: engine.live; ReplicaReport, about every `report_interval_s`
        waits for: a change of the store, at most until the next report
        unblocked by: a notice, the poll of the watch, close at the next of them
        """
        watch: Watch | None = None
        while not self._closing.is_set():
            try:
                watch = watch or self._connect()
                self.look()
                self._report_when_due()
            except (StoreUnavailable, UnsafePolicy) as error:
                self._say(str(error))
                self._closing.wait(self._report_interval_s)
            else:
                self._say("")
                if watch.wait(max(0.0, self._next_report_s - time.monotonic())):
                    self._refusals.look_again()
        if watch is not None:
            watch.close()

    def _connect(self) -> Watch:
        """Raises UnsafePolicy where the server may evict what we would load."""
        self._store.check_policy()
        return self._store.watch()

    def _say(self, trouble: str) -> None:
        """Logs what is wrong with the store when it begins, and when it is over."""
        if trouble and trouble != self._trouble:
            log.warning("store_unavailable", error=trouble)
        if self._trouble and not trouble:
            log.info("store_available")
        self._trouble = trouble

    def _read_plan(self) -> RolloutPlan | None:
        try:
            with refusing():
                plan = self._store.plan()
            if plan is not None and self._plan is not None and is_older(plan, self._plan):
                raise VersionRefused("old_plan", f"revision {plan.revision}, after {self._plan.revision} was in force")
        except VersionRefused as error:
            self._refusals.add(PLAN, error)
            return None
        self._refusals.clear(PLAN)
        return plan

    def _take(self, plan: RolloutPlan) -> None:
        self._state = SwapState.LOADING
        tried = plan.needed
        try:
            for number in tried:
                self._load(number)
                is_due = self._engine.live is None or number == plan.versions[-1]
                if is_due and plan.stable in self._versions:
                    self._flip(plan)  # the first weights of all answer as soon as they are there
            if not self._versions:
                tried += self._load_newest()
            self._flip(plan)
        finally:
            self._state = SwapState.WAITING
        kept = {*plan.needed, *(self._engine.live.versions if self._engine.live else ())}
        self._versions = {number: version for number, version in self._versions.items() if number in kept}
        self._refusals.keep(kept | set(tried))
        self._loader.keep({*self._versions, *self._refusals.lacking})

    def _load_newest(self) -> tuple[int, ...]:
        """Loads the newest stored version that can be, where nothing else can answer; those that were tried."""
        stored = self._store.stored_versions()[::-1]
        for number in stored:
            self._load(number)
            if self._versions:
                break
        return tuple(stored)

    def _load(self, number: int) -> None:
        if number in self._versions or self._refusals.holds(number):
            return
        started_s = time.monotonic()
        try:
            version = self._loader.load(number)
            self._versions[number] = replace(version, latency=self._latency_of(version))
        except VersionRefused as error:
            self._refusals.add(number, error)
        else:
            self._refusals.clear(number)
            log.info("version_loaded", version=number, ms=round(1e3 * (time.monotonic() - started_s), 1))
            self._closing.wait(LOAD_REST_S)

    def _latency_of(self, version: Version) -> LatencyTable:
        """Of its precisions, where there is a choice: that of a version of the same shape, else measured now."""
        names = allowed(version.precisions, self._precision, is_brown_out=True)
        if self._precision.mode not in (AUTO, *names):
            log.warning("precision_not_allowed", version=version.number, mode=self._precision.mode, used=names[0])
        if len(names) == 1:
            return NOT_MEASURED
        encoder = version.model.encoder
        for other in self._versions.values():
            if other.latency.knows(names) and other.model.encoder.config == encoder.config:
                return other.latency
        with refusing():
            latency = measure(encoder.encode, names, vocab=encoder.config.vocab)
        log.info("latency_measured", num_tokens=latency.num_tokens, ms=latency.ms)
        return latency

    def _flip(self, plan: RolloutPlan) -> None:
        served = servable(plan, self._versions)
        live = self._engine.live
        if served is None or (live is not None and served == live.plan):
            return
        versions = {number: self._versions[number] for number in served.versions}
        number = live.number + 1 if live else 1
        after = self._engine.live = ActiveVersions(number=number, plan=served, versions=versions)
        self._has_looked.set()
        for _ in range(MAX_FLIP_RESTS):
            if self._engine.seen_number >= number or self._closing.wait(FLIP_REST_S):
                break
        self._next_report_s = 0.0
        log.info("flipped", revision=served.revision, versions=list(versions))
        if after.stand_in and (live is None or live.stand_in != after.stand_in):
            log.error("stand_in", stable=plan.stable, answering=after.stand_in)

    def _missing(self, plan: RolloutPlan) -> bool:
        """Whether there is a version to look for now."""
        return any(number not in self._versions and not self._refusals.holds(number) for number in plan.needed)

    def _report_when_due(self) -> None:
        if time.monotonic() >= self._next_report_s:
            self._next_report_s = time.monotonic() + self._report_interval_s
            self._store.report(self._report())
