"""Runs all parts of the load beside a scene, and waits, which keeps both going.

    running(scene) -> Running: ledger, publisher, labeller, pacer, watch, attribution --wait--> a condition holds

The watch polls the store for heartbeats of the learner and of the rollout.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain

from bench.chaos.ledger import LEARNER, ROLLOUT, ChaosLedger
from bench.chaos.load import NUM_ASKERS, Asker, ChaosLabeller, Pacer, Reader, Texts
from bench.chaos.recomputed import Attribution
from bench.chaos.retrying import RetryingPublisher
from bench.chaos.scene import Scene
from bench.chaos.size import SceneSize
from bench.harness.texts import clinc150
from evals.load.session import Loops
from evals.results.row import Skip
from evals.streams.data import SUPPORT, load
from evals.streams.stream import StreamItem
from services.programs import open_store
from services.settings import Settings
from wire.errors import WireError
from wire.records import LearnerReport
from wire.store import Store

WATCH_INTERVAL_S = 0.3


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
                while self._settings().store == settings.store and not self._closed.wait(WATCH_INTERVAL_S):
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


POLL_INTERVAL_S = 0.25
"""The time between two checks for recovery. At each check the scene also restarts what has ended."""


@dataclass(frozen=True, slots=True)
class Running:
    """A scene, and the parts of the load that it is played with."""

    scene: Scene
    ledger: ChaosLedger
    publisher: RetryingPublisher
    labeller: ChaosLabeller
    pacer: Pacer
    watch: LearnerWatch
    attribution: Attribution
    size: SceneSize
    loops: Loops

    def wait(self, holds: Callable[[], bool], limit_s: float) -> bool:
        """Waits until the condition holds; returns whether it did in time. Meanwhile scene and load are checked."""
        deadline_s = time.monotonic() + limit_s
        while not holds():
            if time.monotonic() > deadline_s:
                return False
            self.scene.check()
            self.loops.check()
            time.sleep(POLL_INTERVAL_S)  # heartbeats come from several threads: polling is simpler than their notices
        return True

    def wait_until(self, moment_s: float) -> None:
        """Waits until a moment of the monotonic clock."""
        self.wait(lambda: time.monotonic() >= moment_s, math.inf)


@contextmanager
def running(scene: Scene, items: list[StreamItem], size: SceneSize) -> Iterator[Running]:
    """Runs all parts of the load, and ends them when left."""
    texts = Texts(items)
    numbers = queue.Queue[int]()
    ledger = ChaosLedger(http_every=size.http_every, clock_s=time.monotonic)
    publisher = RetryingPublisher(lambda: scene.settings().bus, client_id="chaos")
    labeller = ChaosLabeller(texts, ledger, publisher, size)
    attribution = Attribution(scene.settings)
    reader = Reader(scene.settings, ledger, labeller, attribution.offer)
    watch = LearnerWatch(scene.settings, ledger)
    askers = [Asker(scene.settings, ledger, labeller, texts, numbers, scene.api_keys.load) for _ in range(NUM_ASKERS)]
    pacer = Pacer(ledger, texts, publisher, numbers, rate=size.rate)
    with Loops(publisher, labeller, reader, watch, attribution, *askers, pacer) as loops:
        yield Running(scene, ledger, publisher, labeller, pacer, watch, attribution, size, loops)


def labelled_items() -> list[StreamItem]:
    """Returns labelled texts: those of CLINC150, else the carried ones."""
    try:
        stream = clinc150()
    except Skip:
        stream = load(SUPPORT, None)
    items = list(chain.from_iterable(stage.train for stage in stream.stages))
    step = 7919  # a prime: neighbours are of different classes
    return [items[place * step % len(items)] for place in range(len(items))]
