"""Starts a fresh stack that has learnt all classes of CLINC150 from a few labels each, and is idle.

running_service() -> Stack -> two labels of every class learnt, and live -> Service
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bench.harness.process import await_that
from bench.harness.settings import loaded
from bench.harness.texts import clinc150, few_of_each
from evals.load.session import LoadProfile, Participants, play, session_participants
from evals.load.watcher import ServiceSnapshot
from evals.results.row import NoResult, Skip
from evals.streams.stream import Stream, StreamItem
from services.demo.command import system_of
from services.demo.fresh import fresh
from services.local.kafka import kafka_home
from services.local.stack import Stack
from services.programs import open_store
from services.settings import Settings, with_tasks
from services.tune.table import tuned
from wire.bus import Bus
from wire.store import Store

LABELS_OF_EACH = 2
IDLE_WITHIN_S = 120.0
NONE: Final[Mapping[str, Any]] = MappingProxyType({})
PRIMING = LoadProfile(rate=150, label_delay_s=(0.2, 1.0))


def apache_kafka() -> Path:
    """Returns the folder of Apache Kafka. Raises Skip without one: other brokers may lose their log in a crash."""
    home = kafka_home()
    if home is None:
        raise Skip("Apache Kafka: KAFKA_HOME is not set")
    return home


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, and the test items, of which it has learnt none."""

    settings: Settings
    stack: Stack
    bus: Bus
    store: Store
    items: tuple[StreamItem, ...]
    replicas: frozenset[str]
    """The replicas that answered when it was ready."""

    def check(self) -> None:
        """Raises NoResult where a program of the service, or a replica, has ended since its start: figures are void."""
        if num := self.stack.num_restarts:
            raise NoResult(f"{num} times a program of the service ended and was started again")
        if new := replicas_of(self.store) - self.replicas:
            raise NoResult(f"{len(new)} replicas were started in the place of others")

    @contextmanager
    def unlabelled(self, rate: float) -> Iterator[Participants]:
        """Runs the participants of a session without labels, so that nothing is learnt.

        A rate of 0 means as fast as possible. The time of a single answer does not count then, so answers are read
        patiently.
        """
        profile = LoadProfile(rate=rate, labels=False, is_patient=not rate)
        system = system_of(self.stack, self.store)
        with session_participants(system, profile, say=discard) as participants:
            yield participants
        self.check()


def chosen(settings: Mapping[str, Any]) -> Settings:
    """Returns the settings of the environment, in whose place are those of `settings`, by their names."""
    return tuned(with_tasks(loaded(settings, file=None, environ=os.environ))).settings


@contextmanager
def fresh_stack(settings: Mapping[str, Any] = NONE) -> Iterator[tuple[Stack, Store, Bus]]:
    """Starts a service that has learnt nothing, as `lifelong up` does, and ends it when left.

    `settings` are set by name, besides those of the environment.
    """
    with (
        fresh(chosen(settings)) as own,
        Stack(own, say=discard) as stack,
        closing(open_store(stack.settings)) as store,
        closing(Bus(stack.settings.bus, "bench")) as bus,
    ):
        yield stack, store, bus


@contextmanager
def running_service(settings: Mapping[str, Any] = NONE) -> Iterator[Service]:
    """Starts the service, and ends it when left. Raises Skip where there is no data, and NoResult."""
    stream = clinc150()
    primer = Stream("primer", (few_of_each(stream, LABELS_OF_EACH),))
    items = tuple(stream.test_items)
    with fresh_stack(settings) as (stack, store, bus):
        play(system_of(stack, store), primer, PRIMING, say=discard)
        await_that(lambda: is_rested(store), "the learner had work left", within_s=IDLE_WITHIN_S)
        service = Service(stack.settings, stack, bus, store, items, replicas_of(store))
        service.check()
        yield service


@contextmanager
def changed_environment(**variables: str) -> Iterator[None]:
    """Sets variables of the environment, which the programs inherit that are started meanwhile."""
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


def replicas_of(store: Store) -> frozenset[str]:
    """Returns the names of the replicas that report."""
    return frozenset(report.replica for report in store.reports.replicas())


def is_followed(revision: int) -> Callable[[ServiceSnapshot], bool]:
    """Returns the predicate that every replica follows the plan of `revision`, or a later one."""
    return lambda snapshot: snapshot.follows(revision)


def is_rested(store: Store) -> bool:
    """Whether the learner has nothing left to do: after the slow round and the rehearsal of the labels."""
    report = store.reports.learner()
    return report is not None and report.is_rested


def discard(_text: str) -> None:
    """Discards a line for a human."""
