"""Measures the cost of a setting: throughput at full speed, in turns with a service without the setting.

    service, service under other settings --full speed, in turns--> median of each, the second compared with the first

    exactly_once    `serving.exactly_once`, compared with at least once
    mapping         a map of foreign messages, compared with messages of our own form through the same service
    telemetry       metrics and traces, compared with neither

**Turns.** Both services run all the time, so other load on the machine, and the idle service, slow down both equally.
The service that begins changes from round to round.

**exactly_once.** Each service has an Apache Kafka of its own, because other brokers have no transactions.

**mapping.** Both topics carry plain JSON with the same texts and keys, and are filled before the first answer.

**telemetry.** Every process is scraped once a second, fifteen times as often as usual, as OpenMetrics with exemplars.
Every event begins a trace up to the limit `max_per_s`, which bounds the cost of traces. The collector is a thread of
this process that reads the posts and counts their bytes.
"""

import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from bench.harness.case import Run
from bench.harness.process import stopping
from bench.harness.service import Service, apache_kafka, running_service
from bench.over_kafka import NUM_EVENTS, measure_full_speed
from evals.results.row import NoResult, Peer, Row
from services.local.children import free_port
from services.local.kafka import start_broker
from wire.records import Answer, Event
from wire.threads import BackgroundThread


@dataclass(frozen=True, slots=True)
class Rounds:
    """The size of a benchmark that measures two sides in turns."""

    rounds: int
    """How often each side is measured."""


@contextmanager
def service_pair(settings: Mapping[str, object]) -> Iterator[tuple[Service, Service]]:
    """Runs a service with the settings of the environment, and one with `settings` in addition.

    Raises Skip and NoResult like `running_service`.
    """
    with running_service() as plain, running_service({"serving.http_port": free_port(), **settings}) as other:
        yield plain, other


def alternate(plain: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Measures both sides in turns; returns the values of each in the order of the rounds.

    The side that begins changes from round to round.
    """
    plain_values: list[float] = []
    other_values: list[float] = []
    turns = [(plain, plain_values), (other, other_values)]
    for _ in range(rounds):
        for measure_side, values in turns:
            values.append(measure_side())
        turns.reverse()
    return plain_values, other_values


def row(name: str, plain: list[float], other: list[float], *, goal: float, baseline: str, note: str = "") -> Row:
    """Returns the row that compares the other service with the plain one. Its note has the values of all rounds."""
    rounds = "; ".join(f"{ours:.0f} against {theirs:.0f}" for ours, theirs in zip(other, plain, strict=True))
    return Row.of(
        name,
        median(other),
        "events/s",
        goal=f">= {goal}x",
        peers=(Peer(baseline, median(plain)),),
        note="; ".join(filter(None, [note, rounds])),
    )


EXACTLY_ONCE_GOAL = 0.8
AT_LEAST_ONCE = "at least once"


def measure_exactly_once(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(5), quick=Rounds(1))
    apache_kafka()
    with service_pair({"serving.exactly_once": True}) as (plain, exactly_once):
        measured = alternate(partial(measure_full_speed, plain), partial(measure_full_speed, exactly_once), size.rounds)
    yield row("exactly_once.throughput", *measured, goal=EXACTLY_ONCE_GOAL, baseline=AT_LEAST_ONCE)


FOREIGN_TOPIC = "crm.messages"
MAPPING = {
    "bus.map.events.topic": FOREIGN_TOPIC,
    "bus.map.events.id": "{ticket_id}",
    "bus.map.events.text": "{subject?}{body}",
    "bus.map.events.key": "{customer.name}",
    "bus.map.events.source": "crm",
}
MAPPING_GOAL = 0.95
ANSWER_LIMIT_S = 60.0
POLL_MS = 200


def measure_mapping(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(5), quick=Rounds(1))
    numbers = count()
    with _broker_with_topic() as servers, running_service({"bus.bootstrap_servers": servers} | MAPPING) as service:
        with closing(KafkaProducer(bootstrap_servers=servers, linger_ms=5)) as producer:
            speed = partial(_full_speed, service, producer, numbers)
            ours = partial(speed, service.settings.bus.topic_for(Event))
            foreign = partial(speed, FOREIGN_TOPIC)
            measured = alternate(ours, foreign, size.rounds)
        service.check()
    yield row("mapping.throughput", *measured, goal=MAPPING_GOAL, baseline="messages of our own form")


def _full_speed(service: Service, producer: Any, numbers: Iterator[int], topic: str) -> float:
    """Returns the throughput in events a second, from the first message sent to the last answer.

    Raises NoResult if no answer comes for ANSWER_LIMIT_S seconds.
    """
    with closing(service.bus.follow([Answer], service.bus.end_offsets(Answer), is_patient=True)) as follower:
        follower.poll(POLL_MS)
        start_s = time.monotonic()
        waiting = set[str]()
        run = next(numbers)
        for number, item in enumerate(islice(cycle(service.items), NUM_EVENTS)):
            event_id = f"{topic}-{run}-{number}"
            waiting.add(event_id)
            producer.send(
                topic, _message(event_id, item.text, f"customer {number % 1_000}", is_ours=topic != FOREIGN_TOPIC)
            )
        last_s = time.monotonic()
        while waiting:
            received = follower.poll(POLL_MS).received
            waiting.difference_update(each.record.event_id for each in received)
            last_s = time.monotonic() if received else last_s
            if time.monotonic() - last_s > ANSWER_LIMIT_S:
                raise NoResult(f"{len(waiting)} of {NUM_EVENTS} messages in {topic} have no answer")
        return NUM_EVENTS / (last_s - start_s)


def _message(event_id: str, text: str, customer: str, *, is_ours: bool) -> bytes:
    fields: dict[str, Any] = {"id": event_id, "text": text, "key": customer}
    if not is_ours:
        fields = {"ticket_id": event_id, "subject": None, "body": text, "customer": {"name": customer}}
    return json.dumps(fields).encode()


@contextmanager
def _broker_with_topic() -> Iterator[str]:
    """Starts a broker of the service's kind and creates the foreign topic; yields the broker's address."""
    with tempfile.TemporaryDirectory() as folder, stopping(start_broker(Path(folder))) as broker:
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.create_topics({FOREIGN_TOPIC: {"num_partitions": 4, "replication_factor": 1}})
        yield broker.bootstrap_servers


TELEMETRY_GOAL = 0.99
WITHOUT_TELEMETRY = "the same service without metrics and traces"
SCRAPE_S = 1.0
PORTS = 4
"""The number of ports that are scraped: replica, learner, rollout, and a spare one."""

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@dataclass(slots=True)
class TelemetryCounts:
    """Counts the telemetry of a service: answered scrapes, posts to the collector, and the bytes of the posts."""

    num_scrapes: int = 0
    num_posts: int = 0
    num_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure_telemetry(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(9), quick=Rounds(1))
    counts = TelemetryCounts()
    metrics_port = free_port()
    with collector(counts) as port, scraped(metrics_port, counts):
        settings = {
            "metrics.port": metrics_port,
            "traces.endpoint": f"http://127.0.0.1:{port}",
            "traces.share": 1.0,
        }
        with service_pair(settings) as (plain, traced):
            measured = alternate(partial(measure_full_speed, plain), partial(measure_full_speed, traced), size.rounds)
    if not (counts.num_scrapes and counts.num_posts):
        raise NoResult(
            f"the service sent no telemetry: {counts.num_scrapes} scrapes, {counts.num_posts} posts of traces"
        )
    note = f"{counts.num_scrapes} scrapes, {counts.num_posts} posts of traces with {counts.num_bytes} bytes"
    yield row("telemetry.throughput", *measured, goal=TELEMETRY_GOAL, baseline=WITHOUT_TELEMETRY, note=note)


@contextmanager
def collector(counts: TelemetryCounts) -> Iterator[int]:
    """Runs a collector that accepts traces by OTLP until exit; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            num_bytes = len(self.rfile.read(int(self.headers["content-length"])))
            with counts.lock:
                counts.num_posts += 1
                counts.num_bytes += num_bytes
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def scraped(port: int, counts: TelemetryCounts) -> Iterator[None]:
    """Scrapes the metrics at PORTS ports from `port` on, once a second, until exit."""

    def scrape() -> None:
        """Scrapes the metrics.

        consumes: nothing; produces: requests for /metrics; waits for: the next second; unblocked by: close
        """
        while not thread.closing.wait(SCRAPE_S):
            for each in range(port, port + PORTS):
                request = urllib.request.Request(f"http://127.0.0.1:{each}/metrics", headers=OPEN_METRICS)
                with suppress(OSError), urllib.request.urlopen(request, timeout=SCRAPE_S) as response:
                    response.read()
                    counts.num_scrapes += 1

    thread = BackgroundThread(scrape, name="bench-scrapes")
    thread.start()
    try:
        yield
    finally:
        thread.close()
