"""Starts a fresh service that has learnt all classes of CLINC150 from a few labels each, and is idle.

running_service() -> Stack -> two labels of every class learnt, and live -> Service
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bench.harness.process import poll_until
from bench.harness.settings import load_settings
from bench.harness.texts import clinc150, first_items_per_class
from evals.load.session import LoadProfile, Participants, play, session_participants
from evals.load.watcher import ServiceSnapshot
from evals.results.row import NoResult, Skip
from evals.streams.stream import Stream, StreamItem
from services.demo.command import system_under_test
from services.demo.fresh import fresh
from services.local.kafka import kafka_home
from services.local.stack import Stack
from services.programs import open_store
from services.settings import Settings, with_tasks
from services.tune.table import fill_in_layout
from wire.bus import Bus
from wire.store import Store

LABELS_PER_CLASS = 2
IDLE_WITHIN_S = 120.0
NO_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType({})
PRIMING = LoadProfile(rate=150, label_delay_s=(0.2, 1.0))


def apache_kafka() -> Path:
    """Returns the folder of Apache Kafka. Raises Skip if there is none: other brokers may lose their log in a crash."""
    home = kafka_home()
    if home is None:
        raise Skip("Apache Kafka: KAFKA_HOME is not set")
    return home


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, and the test items, none of which it has learnt."""

    settings: Settings
    stack: Stack
    bus: Bus
    store: Store
    items: tuple[StreamItem, ...]
    replicas: frozenset[str]
    """The replicas that reported when the service was ready."""

    def check(self) -> None:
        """Raises NoResult if a program of the service or a replica has ended since the start: the figures are void."""
        if num := self.stack.num_restarts:
            raise NoResult(f"programs of the service ended and were restarted {num} times")
        if new := reporting_replicas(self.store) - self.replicas:
            raise NoResult(f"{len(new)} replicas were replaced by new ones")

    @contextmanager
    def unlabelled(self, rate: float) -> Iterator[Participants]:
        """Runs the participants of a session without labels, so that the service learns nothing.

        `rate` is in events a second; 0 means as fast as possible. Then the latency of a single answer does not count,
        so the load generator reads answers with a delay and leaves more of the machine to the service.
        """
        profile = LoadProfile(rate=rate, labels=False, is_patient=not rate)
        system = system_under_test(self.stack, self.store)
        with session_participants(system, profile, say=discard) as participants:
            yield participants
        self.check()


def effective_settings(settings: Mapping[str, Any]) -> Settings:
    """Returns the settings of the environment, overridden by `settings`, which are given by dotted name."""
    return fill_in_layout(with_tasks(load_settings(settings, file=None, environ=os.environ))).settings


@contextmanager
def fresh_stack(settings: Mapping[str, Any] = NO_SETTINGS) -> Iterator[tuple[Stack, Store, Bus]]:
    """Starts a service that has learnt nothing, as `lifelong up` does, and stops it on exit.

    `settings`, given by dotted name, override the settings of the environment.
    """
    with (
        fresh(effective_settings(settings)) as own,
        Stack(own, say=discard) as stack,
        closing(open_store(stack.settings)) as store,
        closing(Bus(stack.settings.bus, "bench")) as bus,
    ):
        yield stack, store, bus


@contextmanager
def running_service(settings: Mapping[str, Any] = NO_SETTINGS) -> Iterator[Service]:
    """Starts a service that knows all classes, and stops it on exit.

    Raises Skip without data, and NoResult if the learner is not idle within IDLE_WITHIN_S.
    """
    stream = clinc150()
    primer = Stream("primer", (first_items_per_class(stream, LABELS_PER_CLASS),))
    items = tuple(stream.test_items)
    with fresh_stack(settings) as (stack, store, bus):
        play(system_under_test(stack, store), primer, PRIMING, say=discard)
        poll_until(lambda: is_learner_idle(store), "the learner had work left", within_s=IDLE_WITHIN_S)
        service = Service(stack.settings, stack, bus, store, items, reporting_replicas(store))
        service.check()
        yield service


@contextmanager
def changed_environment(**variables: str) -> Iterator[None]:
    """Sets environment variables until exit. Programs that are started meanwhile inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def reporting_replicas(store: Store) -> frozenset[str]:
    """Returns the names of the replicas that report to the store."""
    return frozenset(report.replica for report in store.reports.replicas())


def follows_plan(revision: int) -> Callable[[ServiceSnapshot], bool]:
    """Returns a predicate: whether every replica follows the plan of `revision` or a later plan."""
    return lambda snapshot: snapshot.follows(revision)


def is_learner_idle(store: Store) -> bool:
    """Returns whether the learner has nothing left to do, slow rounds and rehearsal of the labels included."""
    report = store.reports.learner()
    return report is not None and report.is_rested


def discard(_text: str) -> None:
    """Discards a line of progress."""
