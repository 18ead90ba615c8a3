"""Polls the store for heartbeats of the learner and of the rollout."""

import threading
import time
from collections.abc import Callable
from contextlib import closing

from bench.chaos.ledger import LEARNER, ROLLOUT, ChaosLedger
from services.programs import open_store
from services.settings import Settings
from wire.errors import WireError
from wire.records import LearnerReport
from wire.store import Store

POLL_INTERVAL_S = 0.3


class LearnerWatch:
    """Holds the last report of the learner; `current` is the version that it goes on from."""

    def __init__(self, settings: Callable[[], Settings], ledger: ChaosLedger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._closed = threading.Event()
        self.report: LearnerReport | None = None
        self.current = 0
        self._seen: dict[str, object] = {}
        self._polled_s = time.monotonic()

    def run(self) -> None:
        """Polls again and again.

        consumes: report, plan; produces: heartbeats; waits for: a third of a second; unblocked by: it, `close`
        """
        while not self._closed.is_set():
            settings = self._settings()
            with closing(open_store(settings)) as store:
                while self._settings().store == settings.store and not self._closed.wait(POLL_INTERVAL_S):
                    begun_s = time.monotonic()
                    try:
                        self._poll(store)
                    except WireError:
                        continue
                    finally:
                        self._polled_s = begun_s

    @property
    def counts(self) -> dict[str, int]:
        """The learner's counters in its last report; none before the first report."""
        return self.report.counts if self.report else {}

    def close(self) -> None:
        self._closed.set()

    def _poll(self, store: Store) -> None:
        report = store.reports.learner()
        plan = store.plans.read()
        self.current = store.versions.current()
        if report is not None:
            self.report = report
            self._record(LEARNER, report.counts.get("labels", 0))
        if plan is not None:
            self._record(ROLLOUT, plan.revision)

    def _record(self, track: str, seen: object) -> None:
        """Records a heartbeat where `seen` has changed since the last poll."""
        if self._seen.get(track) not in (None, seen):
            self._ledger.record_heartbeat(track, self._polled_s)
        self._seen[track] = seen
