"""Measures events a second over Kafka, end to end: a topic full of CLINC150 texts, one replica, answers in Kafka.

The peers are what one would write without this project, on a broker of the same kind: consumer, an encoder of a library
(torch in full precision, or the INT8 of ONNX Runtime and of OpenVINO), producer, in one process that has all cores to
itself. The goal is held against the fastest of them. Beside them stands our service with torch's INT8 operations in
place of our kernels, which is how the first version ran; its latency is compared, too. Every figure is a median of
three rounds.

Rejected: a peer that only echoes events. It says what the broker can do, and nothing of an answer's price.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from bench.fixtures import Fixtures
from bench.kafka_latency import latency_ms
from bench.peers.field import NO_TIME
from bench.peers.kafka_loop import UNPADDED
from bench.process import PeerFailed, run_module
from bench.service import Service, running_service
from evals.load.score import per_second
from evals.results.row import Gaps, Goal, NoResult, Peer, Row
from evals.streams.stream import StreamItem
from kernels.dispatch import VARIABLE
from services.cores import num_cores
from services.local.kafka import LocalBroker, start_broker
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event
from wire.timestamps import now_ms

NUM_EVENTS = 10_000
NUM_PEER_EVENTS = 5_000
ROUNDS = 3
FLUSH_S = 60.0
LOOPS = (
    UNPADDED,
    "ORT INT8",
    "ORT INT8 fused",
    "OpenVINO static",
    "OpenVINO static bf16",
    "OpenVINO dynamic g128",
    "OpenVINO dynamic g128 bf16",
)
"""The encoders of the loops, by their names in bench/peers/engines.py."""

LOOP_S = 300.0
"""How long a loop may take, its rounds included. The first time, its model is exported and calibrated."""

LOOPS_S = 180.0
"""How long all loops may take where all benchmarks run. The loops that have not ended then are missing."""

LIBRARY = "our service, torch's INT8 operations"


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    ours = _ours(service)
    yield Row.of(name="kafka_throughput", value=ours, unit="events/s", goal=Goal(">=", 600))
    p99_ms = latency_ms(service)["p99"]
    fixtures.stop_service()
    goal = Goal(">=", 2, of_peer=True)
    yield against_loops(ours, goal, _loops(service.items, fixtures))
    fixtures.say(f"{LIBRARY}: started ...")
    with _library_kernels(), running_service() as service:
        peers = (Peer(LIBRARY, _ours(service)),)
        library_p99_ms = latency_ms(service)["p99"]
    yield Row.of(name="kafka_throughput.kernels", value=ours, unit="events/s", goal=goal, peers=peers)
    if library_p99_ms is not None:
        goal = Goal("<=", 1, of_peer=True)
        peers = (Peer(LIBRARY, library_p99_ms),)
        yield Row.of(name="kafka_latency.kernels", value=p99_ms, unit="ms at 200 events/s", goal=goal, peers=peers)


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
    return median(full_speed(service) for _ in range(ROUNDS))


def full_speed(service: Service) -> float:
    """Measures events a second over NUM_EVENTS, which are in the topic long before their answers.

    They are counted from the first event sent to the last answer. Raises NoResult where not all are answered.
    """
    with service.unlabelled(rate=0) as participants:
        for item in islice(cycle(service.items), NUM_EVENTS):
            participants.player.send(item, stage=0, time_ms=now_ms(), round=0)
        participants.player.await_answers(at_most=0)
        if num := participants.ledger.progress().counts.outstanding:
            raise NoResult(f"{num} of {NUM_EVENTS} events have no answer")
        return per_second(participants.ledger.throughput())


def _loops(items: tuple[StreamItem, ...], fixtures: Fixtures) -> dict[str, dict[str, Any]]:
    """Runs the loops one after the other; returns what each printed, by its encoder."""
    deadline_s = fixtures.deadline_s(LOOPS_S)
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, _broker(Path(folder)) as broker:
        config = BusConfig(bootstrap_servers=broker.bootstrap_servers, prefix="peer.")
        _fill(config, items)
        for name in LOOPS:
            fixtures.say(f"kafka_throughput: a loop with {name} ...")
            measured[name] = _loop(name, config.bootstrap_servers, limit_s=min(LOOP_S, deadline_s - time.monotonic()))
            fixtures.say(f"kafka_throughput: {name}: {measured[name]}")
    return measured


def _loop(name: str, bootstrap_servers: str, *, limit_s: float) -> dict[str, Any]:
    """Runs one loop; returns what it printed, or why it is missing."""
    if limit_s <= 0:
        return {"missing": NO_TIME}
    arguments = (name, bootstrap_servers, str(NUM_PEER_EVENTS), str(num_cores()))
    try:
        found: dict[str, Any] = run_module("bench.peers.kafka_loop", *arguments, limit_s=limit_s)
    except PeerFailed as why:
        return {"missing": str(why)}
    return found


def against_loops(ours: float, goal: Goal, measured: Mapping[str, Mapping[str, Any]]) -> Row:
    """Makes the row of ours and the loops: those that ran, the fastest first, with their settings in its note."""
    ran = {name: each for name, each in measured.items() if "events_per_s" in each}
    settings = [f"{name}: {each['how']}" for name, each in ran.items()]
    left_out = [f"left out: {name} ({each['left_out']})" for name, each in measured.items() if "left_out" in each]
    peers = [Peer(name, round(each["events_per_s"], 1)) for name, each in ran.items()]
    return Row.of(
        name="kafka_throughput.loops",
        value=ours,
        unit="events/s",
        goal=goal,
        peers=tuple(sorted(peers, key=lambda peer: peer.value, reverse=True)),
        gaps=Gaps(
            missing=tuple(name for name, each in measured.items() if "missing" in each),
            unfinished=tuple(name for name, each in ran.items() if not each["is_whole"]),
        ),
        note="; ".join([*settings, *left_out]),
    )


@contextmanager
def _broker(folder: Path) -> Iterator[LocalBroker]:
    """Starts a broker like that of the service, and ends it when left."""
    broker = start_broker(folder)
    try:
        yield broker
    finally:
        broker.stop()


def _fill(config: BusConfig, items: tuple[StreamItem, ...]) -> None:
    with closing(Bus(config, "bench")) as bus:
        bus.create_topics()
        publisher = bus.publisher()
        for number, item in enumerate(islice(cycle(items), NUM_PEER_EVENTS)):
            publisher.send(Event(id=str(number), text=item.text, source="bench", time_ms=now_ms()))
        publisher.flush(FLUSH_S)
