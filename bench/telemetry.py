"""Measures what metrics and traces cost: events a second with both, in turns with a service that has neither.

Every process is scraped once a second, as OpenMetrics with exemplars, fifteen times as often as is usual. Every event
begins a trace, as far as `traces.max_per_s` lets it: that bound is what a service can pay at most. The collector is a
thread of this process, which reads what it gets and counts the bytes.
"""

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.fixtures import Fixtures
from bench.kafka_throughput import full_speed
from bench.turns import by_turns, pair, row
from evals.results.row import NoResult, Row
from services.local.children import free_port
from wire.threads import BackgroundThread

GOAL = 0.99
BESIDE = "the same service without metrics and traces"
SCRAPE_S = 1.0
PORTS = 4
"""Ports that are scraped: replica, learner, rollout, and one to spare."""

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TelemetrySize:
    """The size of the benchmark."""

    rounds: int = 9
    """Rounds of either service."""


@dataclass(slots=True)
class Told:
    """What the service has told: scrapes that were answered, and posts to the collector with their bytes."""

    num_scrapes: int = 0
    num_posts: int = 0
    num_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure(fixtures: Fixtures) -> Iterator[Row]:
    size = fixtures.sized(TelemetrySize())
    fixtures.stop_service()
    told = Told()
    metrics_port = free_port()
    with collector(told) as port, scraped(metrics_port, told):
        settings = {
            "metrics.port": metrics_port,
            "traces.endpoint": f"http://127.0.0.1:{port}",
            "traces.share": 1.0,
        }
        with pair(settings) as (plain, telling):
            measured = by_turns(partial(full_speed, plain), partial(full_speed, telling), size.rounds)
    if not (told.num_scrapes and told.num_posts):
        raise NoResult(f"{told.num_scrapes} scrapes and {told.num_posts} posts of traces: nothing was told")
    note = f"{told.num_scrapes} scrapes, {told.num_posts} posts of traces with {told.num_bytes} bytes"
    yield row("telemetry.throughput", *measured, goal=GOAL, beside=BESIDE, note=note)


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
