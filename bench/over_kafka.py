"""Measures one replica of the service over Kafka: its latency, and its throughput with and without labels to learn.

    kafka_latency       200 events a second and no other work: time from event to answer
    kafka_throughput    a topic full of CLINC150 texts: events a second, end to end, compared with hand-written loops
    while_learning      the same throughput, measured in turns without labels and with 200 labels a second, which the
                        learner turns into versions and the replica swaps in

**Latency.** The load is an open loop: an event's latency begins when it is due, and ends when its answer was read back.
Nothing else runs in this process, because a busy load generator would measure its own delays.

**Throughput.** The peers are loops that a user would write without this project, on a broker of the same kind: a
consumer, an encoder of a library (torch in full precision, or the INT8 of ONNX Runtime and of OpenVINO) and a producer,
in one process that has all cores to itself. The goal is compared with the fastest loop. A further peer is our service
with torch's INT8 operations instead of our kernels, whose latency is measured, too. Every figure is a median of three
rounds.

**Labels.** Labels carry their texts, so their rate does not depend on the rate of the answers. Each label is approved,
like the labels of an import. The service knows all classes before the first round.
"""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness.case import Run
from bench.harness.process import PeerFailed, run_module, stopping
from bench.harness.service import Service, changed_environment, running_service
from bench.harness.texts import clinc150
from bench.peers.field import NO_TIME
from bench.peers.kafka_loop import UNPADDED
from evals.load.score import per_second, percentiles
from evals.results.row import Gaps, NoResult, Peer, Row
from evals.streams.stream import StreamItem
from kernels.dispatch import VARIABLE
from services.cores import num_cores
from services.keys import key_ring
from services.local.kafka import start_broker
from wire.bus import Bus, Follower
from wire.config import BusConfig
from wire.receipts import Receipts
from wire.records import Answer, Event, Feedback, LearnerReport
from wire.threads import BackgroundThread
from wire.timestamps import now_ms

RATE = 200.0
WARM_UP_S = 5
MEASURE_S = 30
READ_WITHIN_S = 30.0
POLL_MS = 50


def measure_latency(run: Run) -> Iterator[Row]:
    latencies = latency_ms(run.service())
    yield Row.of("kafka_latency.p99", latencies["p99"], "ms at 200 events/s", goal="<= 60")
    yield Row.of("kafka_latency.p50", latencies["p50"], "ms at 200 events/s")


def latency_ms(service: Service) -> Mapping[str, float | None]:
    """Returns p50 and p99 of the latency in milliseconds, over MEASURE_S seconds."""
    latencies_s(service, "warm-up", WARM_UP_S)
    return percentiles([round(1e3 * latency_s) for latency_s in latencies_s(service, "measure", MEASURE_S)], 50, 99)


def latencies_s(service: Service, run: str, seconds: float) -> list[float]:
    """Returns the latency of every event of a run of `seconds`. Raises NoResult if an event has no answer."""
    texts = [item.text for item in islice(cycle(service.items), round(seconds * RATE))]
    ids = [f"{run}-{number}" for number in range(len(texts))]
    read_s: dict[str, float] = {}
    with (
        closing(service.bus.publisher()) as publisher,
        closing(service.bus.follow([Answer], service.bus.end_offsets(Answer))) as follower,
    ):
        reader = threading.Thread(target=collect_read_times, args=(follower, set(ids), read_s))
        reader.start()
        start_s = time.monotonic()
        due_s = {event_id: start_s + number / RATE for number, event_id in enumerate(ids)}
        for event_id, text in zip(ids, texts, strict=True):
            time.sleep(max(0.0, due_s[event_id] - time.monotonic()))
            publisher.send(Event(id=event_id, text=text, time_ms=now_ms()))
        reader.join()
    if lost := len(ids) - len(read_s):
        raise NoResult(f"{lost} of {len(ids)} events have no answer after {READ_WITHIN_S:g} s")
    service.check()
    return [read_s[event_id] - due_s[event_id] for event_id in ids]


def collect_read_times(follower: Follower, ids: set[str], read_s: dict[str, float]) -> None:
    """Records the time at which the first answer to each event of `ids` is read.

    Ends when all events have an answer, or when READ_WITHIN_S seconds pass without a new one.
    """
    deadline_s = time.monotonic() + READ_WITHIN_S
    while len(read_s) < len(ids) and time.monotonic() < deadline_s:
        for received in follower.poll(POLL_MS).received:
            if isinstance(received.record, Answer) and received.record.event_id in ids:
                now_s = time.monotonic()
                deadline_s = now_s + READ_WITHIN_S
                read_s.setdefault(received.record.event_id, now_s)


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
"""The time limit of one loop with all its rounds. In its first run a loop also exports and calibrates its model."""

LOOPS_S = 180.0
"""The time limit of all loops together if all benchmarks run. Loops that do not end in time are reported as missing."""

LIBRARY = "our service, torch's INT8 operations"


def measure_throughput(run: Run) -> Iterator[Row]:
    service = run.service()
    ours = _median_full_speed(service)
    yield Row.of("kafka_throughput", ours, "events/s", goal=">= 600")
    p99_ms = latency_ms(service)["p99"]
    # The loops need the machine to themselves.
    run.stop_service()
    goal = ">= 2x"
    yield loops_row(ours, goal, _loops(service.items, run))
    run.say(f"{LIBRARY}: starting ...")
    # The variable makes every process of the service use torch's INT8 operations.
    with changed_environment(**{VARIABLE: "library"}), running_service() as service:
        peers = (Peer(LIBRARY, _median_full_speed(service)),)
        library_p99_ms = latency_ms(service)["p99"]
    yield Row.of("kafka_throughput.kernels", ours, "events/s", goal=goal, peers=peers)
    if library_p99_ms is not None:
        goal = "<= 1x"
        peers = (Peer(LIBRARY, library_p99_ms),)
        yield Row.of("kafka_latency.kernels", p99_ms, "ms at 200 events/s", goal=goal, peers=peers)


def _median_full_speed(service: Service) -> float:
    return median(measure_full_speed(service) for _ in range(ROUNDS))


def measure_full_speed(service: Service) -> float:
    """Returns the throughput in events a second over NUM_EVENTS events, which are sent much faster than answered.

    The time runs from the first event sent to the last answer. Raises NoResult if an event has no answer.
    """
    with service.unlabelled(rate=0) as participants:
        for item in islice(cycle(service.items), NUM_EVENTS):
            participants.player.send(item, stage=0, time_ms=now_ms(), round=0)
        participants.player.await_answers(at_most=0)
        if num := participants.ledger.progress().counts.outstanding:
            raise NoResult(f"{num} of {NUM_EVENTS} events have no answer")
        return per_second(participants.ledger.throughput())


def _loops(items: tuple[StreamItem, ...], run: Run) -> dict[str, dict[str, Any]]:
    """Runs the loops one after the other; returns the measurement that each printed, by the name of its encoder."""
    deadline_s = run.deadline_s(LOOPS_S)
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, stopping(start_broker(Path(folder))) as broker:
        config = BusConfig(bootstrap_servers=broker.bootstrap_servers, prefix="peer.")
        _fill(config, items)
        for name in LOOPS:
            run.say(f"kafka_throughput: a loop with {name} ...")
            measured[name] = _loop(name, config.bootstrap_servers, limit_s=min(LOOP_S, deadline_s - time.monotonic()))
            run.say(f"kafka_throughput: {name}: {measured[name]}")
    return measured


def _loop(name: str, bootstrap_servers: str, *, limit_s: float) -> dict[str, Any]:
    """Runs one loop; returns the measurement that it printed, or under `missing` the reason why there is none."""
    if limit_s <= 0:
        return {"missing": NO_TIME}
    arguments = (name, bootstrap_servers, str(NUM_PEER_EVENTS), str(num_cores()))
    try:
        measured: dict[str, Any] = run_module("bench.peers.kafka_loop", *arguments, limit_s=limit_s)
    except PeerFailed as error:
        return {"missing": str(error)}
    return measured


def loops_row(ours: float, goal: str, measured: Mapping[str, Mapping[str, Any]]) -> Row:
    """Makes the row that compares our throughput with the loops that ran, the fastest first.

    Its note has the settings of the loops.
    """
    ran = {name: each for name, each in measured.items() if "events_per_s" in each}
    settings = [f"{name}: {each['how']}" for name, each in ran.items()]
    left_out = [f"left out: {name} ({each['left_out']})" for name, each in measured.items() if "left_out" in each]
    peers = [Peer(name, round(each["events_per_s"], 1)) for name, each in ran.items()]
    return Row.of(
        "kafka_throughput.loops",
        ours,
        "events/s",
        goal=goal,
        peers=tuple(sorted(peers, key=lambda peer: peer.value, reverse=True)),
        gaps=Gaps(
            missing=tuple(name for name, each in measured.items() if "missing" in each),
            unfinished=tuple(name for name, each in ran.items() if not each["is_whole"]),
        ),
        note="; ".join([*settings, *left_out]),
    )


def _fill(config: BusConfig, items: tuple[StreamItem, ...]) -> None:
    with closing(Bus(config, "bench")) as bus:
        bus.create_topics()
        publisher = bus.publisher()
        for number, item in enumerate(islice(cycle(items), NUM_PEER_EVENTS)):
            publisher.send(Event(id=str(number), text=item.text, source="bench", time_ms=now_ms()))
        publisher.flush(FLUSH_S)


LABELS_PER_S = 200.0


ALONE = "the same service without labels"


def measure_while_learning(run: Run) -> Iterator[Row]:
    service = run.service()
    items = tuple(clinc150().train_items)
    without_labels: list[float] = []
    with_labels: list[float] = []
    num_versions = 0
    for number in range(ROUNDS):
        without_labels.append(measure_full_speed(service))
        before = _report(service)
        with labels(service, items, run=f"round-{number}"):
            with_labels.append(measure_full_speed(service))
        num_versions += _report(service).version - before.version
    # The service is busy learning now, so no later case can share it.
    run.stop_service()
    yield Row.of(
        "while_learning.throughput",
        median(with_labels),
        "events/s",
        goal=">= 0.8x",
        peers=(Peer(ALONE, median(without_labels)),),
        note=f"{LABELS_PER_S:g} labels a second; {num_versions} versions in {ROUNDS} rounds",
    )


@contextmanager
def labels(service: Service, items: tuple[StreamItem, ...], *, run: str) -> Iterator[None]:
    """Sends labelled texts at LABELS_PER_S until exit. Raises NoResult if no label was sent."""
    receipts = Receipts(*key_ring(service.settings).receipts)
    num_sent = 0

    def send() -> None:
        """Sends labels.

        consumes: the items, again and again; produces: Feedback; waits for: the next label's time; unblocked by: close
        """
        nonlocal num_sent
        start_s = time.monotonic()
        with closing(service.bus.publisher()) as publisher:
            for item in cycle(items):
                if thread.closing.wait(max(0.0, start_s + num_sent / LABELS_PER_S - time.monotonic())):
                    break
                publisher.send(receipts.approved(_label(f"{run}-{num_sent}", item)))
                num_sent += 1
            publisher.flush(FLUSH_S)

    thread = BackgroundThread(send, name="bench-labels")
    thread.start()
    try:
        yield
    finally:
        thread.close()
    if not num_sent:
        raise NoResult("no label was sent")


def _label(event_id: str, item: StreamItem) -> Feedback:
    return Feedback(
        event_id=event_id, label=item.label, source="bench", time_ms=now_ms(), event_source="bench", text=item.text
    )


def _report(service: Service) -> LearnerReport:
    report = service.store.reports.learner()
    if report is None:
        raise NoResult("the learner does not report")
    return report
