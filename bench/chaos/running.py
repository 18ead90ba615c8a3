"""Runs all parts of the load beside a scene, and waits, which keeps both going.

running(scene) -> Running: ledger, publisher, labeller, pacer, watch, attribution --wait--> a condition holds
"""

import math
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from bench.chaos.askers import NUM_ASKERS, Asker
from bench.chaos.attribution import Attribution
from bench.chaos.ledger import ChaosLedger
from bench.chaos.load import ChaosLabeller, Pacer, Reader, Texts
from bench.chaos.retrying import RetryingPublisher
from bench.chaos.scene import Scene
from bench.chaos.size import SceneSize
from bench.chaos.watch import LearnerWatch
from bench.texts import clinc150
from evals.load.session import Loops
from evals.results.row import Skip
from evals.streams.data import SUPPORT, load
from evals.streams.stream import StreamItem

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
