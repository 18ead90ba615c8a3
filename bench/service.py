"""A fresh stack that has learned all classes of CLINC150 from a few labels each, and is idle.

started() -> Stack -> five labels of every class learned, and live -> Service
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.row import Skip
from bench.texts import clinc150, few_of_each
from evals.load.session import LoadProfile, Participants, assembled, play
from evals.streams.stream import Stream, StreamItem
from services.demo.command import fresh
from services.local.kafka import kafka_home
from services.settings import Settings, load
from services.stack import Stack, open_store
from wire.bus import Bus
from wire.store import Store

LABELS_OF_EACH = 5
IDLE_WITHIN_S = 120.0
LOOK_S = 0.5
PRIMING = LoadProfile(rate=150, label_delay_s=(0.2, 1.0))


def apache_kafka() -> Path:
    """The folder of Apache Kafka. Raises Skip where there is none: other brokers may lose their log when they die."""
    home = kafka_home()
    if home is None:
        raise Skip("Apache Kafka: KAFKA_HOME is not set")
    return home


@dataclass(frozen=True, slots=True)
class Service:
    """What runs, and the test items that nothing was learned from."""

    settings: Settings
    stack: Stack
    bus: Bus
    store: Store
    items: tuple[StreamItem, ...]

    @contextmanager
    def unlabelled(self, rate: float) -> Iterator[Participants]:
        """Everybody that a stream is played with, but the labels: nothing is learned.

        At rate 0, as fast as it goes, no single answer's time counts: they are read patiently.
        """
        tempo = LoadProfile(rate=rate, labels=False, is_patient=not rate)
        with assembled(self.bus, self.store, tempo, say=_nothing, check=self.stack.check) as cast:
            yield cast


@contextmanager
def started() -> Iterator[Service]:
    """Starts it all; ends it when left. Raises Skip where there is no data."""
    stream = clinc150()
    primer = Stream("primer", (few_of_each(stream, LABELS_OF_EACH),))
    items = tuple(item for stage in stream.stages for item in stage.test)
    with (
        fresh(load(file=None, environ=os.environ).settings) as own,
        Stack(own, say=_nothing) as stack,
        closing(open_store(stack.settings)) as store,
        closing(Bus(stack.settings.bus, "bench")) as bus,
    ):
        play(bus, store, primer, PRIMING, say=_nothing, check=stack.check)
        _await_idle(store)
        yield Service(stack.settings, stack, bus, store, items)


def _await_idle(store: Store) -> None:
    """Returns when the learner has nothing left to do: its slow round and its rehearsal, which the labels began."""
    deadline_s = time.monotonic() + IDLE_WITHIN_S
    while (report := store.learner_report()) is None or not report.is_rested:
        if time.monotonic() > deadline_s:
            raise Skip(f"the learner was still busy after {IDLE_WITHIN_S:g} s")
        time.sleep(LOOK_S)


def _nothing(_text: str) -> None:
    """Says nothing."""
