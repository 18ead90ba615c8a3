"""Measures events a second over Kafka, end to end: a topic full of CLINC150 texts, one replica, answers in Kafka.

One peer is what one would write without this project, on a broker of the same kind: consumer, torch in full precision,
producer, in one process that has all cores to itself. The other is our service with torch's INT8 operations in place of
our kernels, which is how the first version ran; its latency is compared, too. The figures of both services are medians
of three.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from bench.fixtures import Fixtures
from bench.kafka_latency import latency_ms
from bench.process import run_module
from bench.row import Goal, Peer, Row
from bench.service import Service, running_service
from evals.load.score import per_second
from evals.streams.stream import StreamItem
from kernels.dispatch import VARIABLE
from services.local.kafka import start_broker
from services.tune.table import num_cores
from wire.bus import Bus
from wire.clock import now_ms
from wire.config import BusConfig
from wire.records import Event

NUM_EVENTS = 10_000
NUM_PEER_EVENTS = 3_000
ROUNDS = 3
FLUSH_S = 60.0
LIBRARY = "our service, torch's INT8 operations"


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    ours = _ours(service)
    p99_ms = latency_ms(service)["p99"]
    fixtures.stop_service()
    peer = Peer("kafka-python, torch fp32", _peer(service.items))
    yield Row(name="kafka_throughput", value=ours, unit="events/s", goal=Goal(">=", 600), peer=peer)
    with _library_kernels(), running_service() as service:
        library = _ours(service)
        library_p99_ms = latency_ms(service)["p99"]
    goal = Goal(">=", 2, of_peer=True)
    yield Row(name="kafka_throughput.kernels", value=ours, unit="events/s", goal=goal, peer=Peer(LIBRARY, library))
    if library_p99_ms is not None:
        goal = Goal("<=", 1, of_peer=True)
        unit = "ms at 200 events/s"
        yield Row(name="kafka_latency.kernels", value=p99_ms, unit=unit, goal=goal, peer=Peer(LIBRARY, library_p99_ms))


@contextmanager
def _library_kernels() -> Iterator[None]:
    """Makes every process that is started within use torch's INT8 operations."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "library"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def _ours(service: Service) -> float:
    return median(_round(service) for _ in range(ROUNDS))


def _round(service: Service) -> float:
    """Measures from the first event sent to the last answer. All events are in the topic long before their answers."""
    with service.unlabelled(rate=0) as participants:
        for item in islice(cycle(service.items), NUM_EVENTS):
            participants.player.send(item, stage=0, time_ms=now_ms(), round=0)
        participants.player.await_answers(at_most=0)
        return per_second(participants.ledger.throughput())


def _peer(items: tuple[StreamItem, ...]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        broker = start_broker(Path(folder))
        try:
            config = BusConfig(bootstrap_servers=broker.bootstrap_servers, prefix="peer.")
            _fill(config, items)
            threads = str(num_cores())
            measured = run_module("bench.peers.kafka_fp32", config.bootstrap_servers, str(NUM_PEER_EVENTS), threads)
            return round(float(measured["events_per_s"]), 1)
        finally:
            broker.stop()


def _fill(config: BusConfig, items: tuple[StreamItem, ...]) -> None:
    with closing(Bus(config, "bench")) as bus:
        bus.create_topics()
        publisher = bus.publisher()
        for number, item in enumerate(islice(cycle(items), NUM_PEER_EVENTS)):
            publisher.send(Event(id=str(number), text=item.text, source="bench", time_ms=now_ms()))
        publisher.flush(FLUSH_S)
