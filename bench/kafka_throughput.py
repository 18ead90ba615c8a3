"""Events a second over Kafka, end to end: a topic full of CLINC150 texts, one replica, answers back in Kafka.

The peer is what one would write without us, on a broker of the same kind: consumer, torch in full precision, producer,
in one process that has all cores to itself.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

from bench.process import measured
from bench.row import Goal, Peer, Row
from bench.service import Service
from bench.supply import Supply
from services.demo.score import per_second
from services.demo.stream import Item
from services.local.kafka import start_broker
from wire.bus import Bus
from wire.clock import now_ms
from wire.config import BusConfig
from wire.records import Event

NUM_EVENTS = 10_000
NUM_PEER_EVENTS = 3_000
FLUSH_S = 60.0


def measure(supply: Supply) -> Iterator[Row]:
    service = supply.service()
    ours = _ours(service)
    supply.stop_service()
    peer = Peer("kafka-python, torch fp32", _peer(service.items))
    yield Row(name="kafka_throughput", value=ours, unit="events/s", goal=Goal(">=", 600), peer=peer)


def _ours(service: Service) -> float:
    """From the first event sent to the last answer; the events are all there long before they are answered."""
    with service.unlabelled(rate=0) as cast:
        for item in islice(cycle(service.items), NUM_EVENTS):
            cast.player.send(item, stage=0, time_ms=now_ms(), round=0)
        cast.player.await_answers(at_most=0)
        return per_second(cast.ledger.throughput())


def _peer(items: tuple[Item, ...]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        broker = start_broker(Path(folder))
        try:
            config = BusConfig(bootstrap_servers=broker.bootstrap_servers, prefix="peer.")
            _fill(config, items)
            threads = str(len(os.sched_getaffinity(0)))
            found = measured("bench.peers.kafka_fp32", config.bootstrap_servers, str(NUM_PEER_EVENTS), threads)
            return round(float(found["events_per_s"]), 1)
        finally:
            broker.stop()


def _fill(config: BusConfig, items: tuple[Item, ...]) -> None:
    with closing(Bus(config, "bench")) as bus:
        bus.create_topics()
        publisher = bus.publisher()
        for number, item in enumerate(islice(cycle(items), NUM_PEER_EVENTS)):
            publisher.send(Event(id=str(number), text=item.text, source="bench", time_ms=now_ms()))
        publisher.flush(FLUSH_S)
