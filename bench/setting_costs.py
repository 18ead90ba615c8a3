"""Measures what a setting costs: events a second at full speed, by turns with a service that does without it.

    service, service under other settings --full speed, by turns--> medians, the second beside the first

    exactly_once    `serving.exactly_once`, beside at least once
    mapping         a map of foreign messages, beside messages of our own form through the same service
    telemetry       metrics and traces, beside neither

Two services run all the time, so whatever the machine does, and the one that waits, slows down both alike. Who begins
changes from round to round. With exactly-once answers both are on a broker of their own, Apache Kafka, as others end no
transactions. Both topics of the map carry plain JSON with the same texts and keys, and are filled before the first
answer. For the telemetry every process is scraped once a second, as OpenMetrics with exemplars, fifteen times as often
as is usual, and every event begins a trace, as far as `max_per_s` lets it: that bound is what a service can pay
at most. The collector is a thread of this process, which reads what it gets and counts the bytes.
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
    """The size of a comparison by turns: the rounds of either side."""

    rounds: int


@contextmanager
def pair(settings: Mapping[str, object]) -> Iterator[tuple[Service, Service]]:
    """Runs a service as the settings have it, and one with `settings` besides. Raises Skip and NoResult."""
    with running_service() as plain, running_service({"serving.http_port": free_port(), **settings}) as other:
        yield plain, other


def by_turns(plain: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Returns the events a second of each round of either. Raises what they raise."""
    of_plain = list[float]()
    of_other = list[float]()
    turns = [(plain, of_plain), (other, of_other)]
    for _ in range(rounds):
        for way, found in turns:
            found.append(way())
        turns.reverse()
    return of_plain, of_other


def row(name: str, plain: list[float], other: list[float], *, goal: float, beside: str, note: str = "") -> Row:
    """Returns the row of the other service, held against the plain one; its note has the rounds."""
    rounds = "; ".join(f"{ours:.0f} beside {theirs:.0f}" for ours, theirs in zip(other, plain, strict=True))
    return Row.of(
        name,
        median(other),
        "events/s",
        goal=f">= {goal}x",
        peers=(Peer(beside, median(plain)),),
        note="; ".join(filter(None, [note, rounds])),
    )


EXACTLY_ONCE_GOAL = 0.8
AT_LEAST_ONCE = "at least once"


def measure_exactly_once(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(5), quick=Rounds(1))
    apache_kafka()
    with pair({"serving.exactly_once": True}) as (plain, exactly_once):
        measured = by_turns(partial(measure_full_speed, plain), partial(measure_full_speed, exactly_once), size.rounds)
    yield row("exactly_once.throughput", *measured, goal=EXACTLY_ONCE_GOAL, beside=AT_LEAST_ONCE)


FOREIGN_TOPIC = "crm.messages"
MAPPING = {
    "bus.map.events.topic": FOREIGN_TOPIC,
    "bus.map.events.id": "{ticket_id}",
    "bus.map.events.text": "{subject?}{body}",
    "bus.map.events.key": "{customer.name}",
    "bus.map.events.source": "crm",
}
MAPPING_GOAL = 0.95
PATIENCE_S = 60.0
POLL_MS = 200


def measure_mapping(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(5), quick=Rounds(1))
    numbers = count()
    with _broker_with_topic() as servers, running_service({"bus.bootstrap_servers": servers} | MAPPING) as service:
        with closing(KafkaProducer(bootstrap_servers=servers, linger_ms=5)) as producer:
            speed = partial(_full_speed, service, producer, numbers)
            ours, foreign = partial(speed, service.settings.bus.topic_of(Event)), partial(speed, FOREIGN_TOPIC)
            measured = by_turns(ours, foreign, size.rounds)
        service.check()
    yield row("mapping.throughput", *measured, goal=MAPPING_GOAL, beside="messages of our own form")


def _full_speed(service: Service, producer: Any, numbers: Iterator[int], topic: str) -> float:
    """Returns events a second, from the first message sent to the last answer. Raises NoResult."""
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
            if time.monotonic() - last_s > PATIENCE_S:
                raise NoResult(f"{len(waiting)} of {NUM_EVENTS} messages in {topic} have no answer")
        return NUM_EVENTS / (last_s - start_s)


def _message(event_id: str, text: str, customer: str, *, is_ours: bool) -> bytes:
    fields: dict[str, Any] = {"id": event_id, "text": text, "key": customer}
    if not is_ours:
        fields = {"ticket_id": event_id, "subject": None, "body": text, "customer": {"name": customer}}
    return json.dumps(fields).encode()


@contextmanager
def _broker_with_topic() -> Iterator[str]:
    """Starts a broker like that of the service, with the foreign topic; yields its address."""
    with tempfile.TemporaryDirectory() as folder, stopping(start_broker(Path(folder))) as broker:
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.create_topics({FOREIGN_TOPIC: {"num_partitions": 4, "replication_factor": 1}})
        yield broker.bootstrap_servers


TELEMETRY_GOAL = 0.99
WITHOUT_TELEMETRY = "the same service without metrics and traces"
SCRAPE_S = 1.0
PORTS = 4
"""Ports that are scraped: replica, learner, rollout, and one to spare."""

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@dataclass(slots=True)
class Told:
    """What the service has told: scrapes that were answered, and posts to the collector with their bytes."""

    num_scrapes: int = 0
    num_posts: int = 0
    num_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure_telemetry(run: Run) -> Iterator[Row]:
    size = run.sized(Rounds(9), quick=Rounds(1))
    told = Told()
    metrics_port = free_port()
    with collector(told) as port, scraped(metrics_port, told):
        settings = {
            "metrics.port": metrics_port,
            "traces.endpoint": f"http://127.0.0.1:{port}",
            "traces.share": 1.0,
        }
        with pair(settings) as (plain, telling):
            measured = by_turns(partial(measure_full_speed, plain), partial(measure_full_speed, telling), size.rounds)
    if not (told.num_scrapes and told.num_posts):
        raise NoResult(f"{told.num_scrapes} scrapes and {told.num_posts} posts of traces: nothing was told")
    note = f"{told.num_scrapes} scrapes, {told.num_posts} posts of traces with {told.num_bytes} bytes"
    yield row("telemetry.throughput", *measured, goal=TELEMETRY_GOAL, beside=WITHOUT_TELEMETRY, note=note)


@contextmanager
def collector(told: Told) -> Iterator[int]:
    """Takes traces by OTLP while the block runs, and yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            num_bytes = len(self.rfile.read(int(self.headers["content-length"])))
            with told.lock:
                told.num_posts += 1
                told.num_bytes += num_bytes
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def scraped(port: int, told: Told) -> Iterator[None]:
    """Asks for the metrics at PORTS ports from `port` on, once a second, while the block runs."""

    def scrape() -> None:
        """Scrapes.

        consumes: nothing; produces: requests for /metrics; waits for: the next second; unblocked by: close
        """
        while not thread.closing.wait(SCRAPE_S):
            for each in range(port, port + PORTS):
                request = urllib.request.Request(f"http://127.0.0.1:{each}/metrics", headers=OPEN_METRICS)
                with suppress(OSError), urllib.request.urlopen(request, timeout=SCRAPE_S) as response:
                    response.read()
                    told.num_scrapes += 1

    thread = BackgroundThread(scrape, name="bench-scrapes")
    thread.start()
    try:
        yield
    finally:
        thread.close()
