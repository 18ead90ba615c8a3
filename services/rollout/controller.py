"""The rollout controller: new versions become candidates, and labels decide what becomes of them.

    notice of a version --> Controller --+
                                         +--> RolloutPlan (compare and set, in Redis)
    answers, labels ------> Judge -------+

The two loops run in threads of their own and meet only in the plan: whoever finds it changed reads it again. So a label
never waits for a version or the other way round, and there is nothing to lock. One controller leads, under the lease
`rollout`; others wait for it to fall silent.

Rejected: one loop over both. A poll of Kafka that waits for answers holds up the notice of a new version, and the time
from label to live pays for it.
"""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog

from services.rollout.change import change
from services.rollout.config import RolloutConfig
from services.rollout.judge import Judge
from services.rollout.plans import follow_newest
from wire.bus import Bus
from wire.errors import NotFound, WireError
from wire.records import Feedback
from wire.store import Lease, Store, Watch

LEASE = "rollout"
PAUSE_S = 1.0
"""Pause after a door failed, before it is tried again."""

log = structlog.get_logger("rollout")


class Controller:
    """Leads the rollout while it holds the lease."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        *,
        config: RolloutConfig,
        holder: str,
        refusal: Callable[[Feedback], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._bus = bus
        self._config = config
        self._holder = holder
        self._refusal = refusal
        self._now_ms = now_ms
        self._renewal_s = config.lease_ms / 3_000
        self._collected = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Leads whenever nobody else does, until `stop`.

        consumes: the lease `rollout`
        produces: one leadership at a time
        waits for: a notice of the store, at most a third of the lease
        unblocked by: `stop`, seen within the same time
        """
        while not stop.is_set():
            try:
                with closing(self._store.watch()) as watch:
                    self._stand_by(watch, stop)
            except WireError as error:
                log.warning("interrupted", error=str(error))
                stop.wait(PAUSE_S)

    def _stand_by(self, watch: Watch, stop: threading.Event) -> None:
        while not stop.is_set():
            lease = self._store.acquire(LEASE, self._holder, self._config.lease_ms)
            if lease is None:
                watch.wait(self._renewal_s)
            else:
                self._lead(lease, watch, stop=stop)

    def _lead(self, lease: Lease, watch: Watch, *, stop: threading.Event) -> None:
        """Keeps the lease, with a judge at work beside it.

        consumes: notices of published versions
        produces: RolloutPlan (the first version, a candidate)
        waits for: a notice, at most a third of the lease
        unblocked by: `stop`, the lease in other hands, or the end of the judge
        """
        log.info("leading", holder=self._holder)
        with Judge(self._store, self._bus, config=self._config, refusal=self._refusal, now_ms=self._now_ms) as judge:
            while not stop.is_set() and self._store.renew(lease):
                judge.check()
                self._follow_newest()
                self._collect()
                watch.wait(self._renewal_s)
        self._store.release(lease)

    def _follow_newest(self) -> None:
        plan = change(
            self._store,
            lambda plan: follow_newest(
                plan,
                self._store.current(),
                share=self._config.candidate_share,
                salt=secrets.token_hex(8),
                now_ms=self._now_ms(),
            ),
        )
        if plan is not None:
            log.info("following", revision=plan.revision, stable=plan.stable, candidate=plan.candidate)

    def _collect(self) -> None:
        """Removes the versions that neither traffic, nor a rollback, nor the newest few need."""
        if time.monotonic() - self._collected < self._config.collect_interval_s:
            return
        self._collected = time.monotonic()
        plan, newest = self._store.plan(), self._store.current()
        if plan is None:
            return
        recent = self._recent(newest)
        removed = self._store.collect({*recent, *plan.versions, plan.previous, newest} - {0})
        if removed:
            log.info("collected", removed=removed)

    def _recent(self, newest: int) -> set[int]:
        """The newest few versions, but for those that know somebody who was erased since."""
        kept, erased = set[int](), 0
        for version in range(newest, max(0, newest - self._config.keep_versions), -1):
            try:
                manifest = self._store.manifest(version)
            except NotFound:
                continue
            erased = max(erased, manifest.erased)
            kept |= {version} if manifest.erased == erased else set()
        return kept
