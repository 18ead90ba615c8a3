"""Looks at the store from outside, for signs of life of the learner and of the rollout."""

import threading
import time
from collections.abc import Callable
from contextlib import closing

from bench.chaos.ledger import LEARNER, ROLLOUT, ChaosLedger
from services.settings import Settings
from services.stack import open_store
from wire.errors import WireError
from wire.records import LearnerReport
from wire.store import Store

LOOK_S = 0.3


class LearnerWatch:
    """The last report of the learner that was seen. `newest` is the newest version in the store."""

    def __init__(self, where: Callable[[], Settings], ledger: ChaosLedger) -> None:
        self._where = where
        self._ledger = ledger
        self._closed = threading.Event()
        self.report: LearnerReport | None = None
        self.newest = 0
        self._seen: dict[str, object] = {}
        self._looked_s = time.monotonic()

    def run(self) -> None:
        """Looks again and again.

        consumes: report, plan; produces: signs of life; waits for: a third of a second; unblocked by: it, `close`
        """
        while not self._closed.is_set():
            settings = self._where()
            with closing(open_store(settings)) as store:
                while self._where().store == settings.store and not self._closed.wait(LOOK_S):
                    begun_s = time.monotonic()
                    try:
                        self._look(store)
                    except WireError:
                        continue
                    finally:
                        self._looked_s = begun_s

    def close(self) -> None:
        self._closed.set()

    def _look(self, store: Store) -> None:
        report = store.learner_report()
        plan = store.plan()
        self.newest = store.current()
        if report is not None:
            self.report = report
            self._lived(LEARNER, report.counts.get("labels", 0))
        if plan is not None:
            self._lived(ROLLOUT, plan.revision)

    def _lived(self, track: str, seen: object) -> None:
        """It lives where what is seen has changed since the last look."""
        if self._seen.get(track) not in (None, seen):
            self._ledger.lived(track, self._looked_s)
        self._seen[track] = seen
