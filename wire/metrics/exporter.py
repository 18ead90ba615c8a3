"""Serves the metrics of one process at /metrics.

    take(report) ... GET /metrics -> collect -> the text of Prometheus
    targets()    ... GET /targets -> the addresses of the replicas, as Prometheus's `http_sd_configs` reads them

It is off unless `metrics.port` is set. Several processes of one machine have the same settings, so each listens on the
first port from there on that is free. What is told is the last report that the process has made for the store, of each
task, and when that was; so a scrape costs the loops of the process nothing.

Nobody can know beforehand how many replicas share a machine, and so their ports. Each replica's report names its
address, and one process, the rollout controller, lists the addresses of all replicas.

The histogram of the latency has exemplars: the trace of the last traced answer of each bucket. They are told to those
who ask for OpenMetrics.

Rejected: Prometheus's own counters, incremented where something happens (the reports count the same already), and one
process that serves the reports of all from the store (where the store is away, nobody would see anything). There is one
exporter in a process, as there is one of Prometheus's registries: passing it on would pass through every constructor.
"""

import errno
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from wire.config import MetricsConfig
from wire.errors import WireError
from wire.metrics.catalogue import METRICS, Metric
from wire.metrics.samples import TASK, AnyReport, MetricValue, samples_of
from wire.records import LABEL_TO_LIVE_BOUNDS_MS, LATENCY_BOUNDS_MS, ControllerReport, ReplicaReport
from wire.tasks import DEFAULT

MAX_PORTS = 64
"""How many ports are tried, from `metrics.port` on."""

TARGETS_PATH = "/targets"
WILDCARDS = ("0.0.0.0", "::", "")
"""Addresses of a listener on every interface."""

LATENCY = "lifelong_latency_seconds"
LABEL_TO_LIVE = "lifelong_label_to_live_seconds"

log = structlog.get_logger("metrics")

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Exporter(Collector):
    """The last reports of this process, by task. Any thread may call `take` and `collect`."""

    def __init__(self) -> None:
        self._reports: Mapping[str, AnyReport] = {}
        self._exemplars: dict[int, Exemplar] = {}
        self.address = ""

    def take(self, report: AnyReport, task: str) -> None:
        """Takes the report of a task, which is told from now on."""
        self._reports = {**self._reports, task: report}

    def note(self, seconds: float, traceparent: str) -> None:
        """Takes the latency of a traced answer, which is the exemplar of its bucket from now on."""
        _, trace_id, *_ = traceparent.split("-")
        bucket = bisect_left(LATENCY_BOUNDS_MS, 1e3 * seconds)
        self._exemplars[bucket] = Exemplar({"trace_id": trace_id}, seconds, time.time())

    def samples(self) -> dict[Metric, list[MetricValue]]:
        """Returns what the reports say, by metric; without the histograms."""
        return _by_metric(self._reports)

    def collect(self) -> Iterator[Family]:
        """Is called by Prometheus's client for each scrape."""
        reports = self._reports
        for metric, samples in _by_metric(reports).items():
            family = _family(metric)
            for sample in samples:
                family.add_sample(metric.name, sample.tags(metric.labels), sample.value)
            yield family
        for task, report in reports.items():
            if isinstance(report, ReplicaReport) and report.latency_counts:
                counts, sum_ms = report.latency_counts, report.latency_sum_ms
                yield _histogram(LATENCY, task, LATENCY_BOUNDS_MS, counts, sum_ms, dict(self._exemplars))
            if isinstance(report, ControllerReport) and report.label_to_live_counts:
                counts, sum_ms = report.label_to_live_counts, report.label_to_live_sum_ms
                yield _histogram(LABEL_TO_LIVE, task, LABEL_TO_LIVE_BOUNDS_MS, counts, sum_ms)


def _by_metric(reports: Mapping[str, AnyReport]) -> dict[Metric, list[MetricValue]]:
    found: dict[Metric, list[MetricValue]] = {}
    for task, report in reports.items():
        for sample in samples_of(report):
            found.setdefault(METRICS[sample.name], []).append(sample._replace(task=task))
    return found


def _family(metric: Metric) -> Any:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def _histogram(
    name: str,
    task: str,
    bounds_ms: Sequence[int],
    counts: Sequence[int],
    sum_ms: float,
    exemplars: Mapping[int, Exemplar] = MappingProxyType({}),
) -> HistogramMetricFamily:
    """Returns times in classes, as Prometheus counts them: each bucket has what is in those below it, too.

    `exemplars` has that of a bucket by its index. A bucket without a count has none: its answer is not reported yet.
    """
    total = 0
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    bounds = [*(f"{1e-3 * bound_ms:g}" for bound_ms in bounds_ms), "+Inf"]
    for index, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
        total += count
        exemplar = exemplars.get(index) if count else None
        buckets.append((bound, total, exemplar) if exemplar else (bound, total))
    family = HistogramMetricFamily(name, METRICS[name].help, labels=(TASK,) if task else ())
    family.add_metric((task,) if task else (), buckets, 1e-3 * sum_ms)
    return family


_exporter = _Exporter()


def take(report: AnyReport, task: str = DEFAULT) -> None:
    """Takes the newest report of this process about a task, which is told from now on. Any thread may call it."""
    _exporter.take(report, task)


def note_latency(seconds: float, traceparent: str) -> None:
    """Takes the latency of a traced answer, as an exemplar of the histogram. Any thread may call it."""
    _exporter.note(seconds, traceparent)


def latest() -> dict[Metric, list[MetricValue]]:
    """Returns what is told now, by metric; without the histograms."""
    return _exporter.samples()


def address() -> str:
    """Returns the host and port of this process's /metrics for other machines ("" if it serves none)."""
    return _exporter.address


@contextmanager
def served(config: MetricsConfig, *, targets: Callable[[], Iterable[str]] | None = None) -> Iterator[int]:
    """Serves /metrics while the block runs, and yields the port (0: none was wanted). Raises OSError: none is free.

    `targets` returns the addresses that /targets lists; without it there is no /targets.
    """
    if not config.port:
        yield 0
        return
    registry = CollectorRegistry()
    registry.register(_exporter)
    ProcessCollector(registry=registry)
    server, thread = _listen(config, registry)
    if targets is not None:
        server.set_app(_with_targets(server.get_app(), targets))
    log.info("metrics", host=config.host, port=server.server_port)
    _exporter.address = f"{_host_for_others(config.host)}:{server.server_port}"
    try:
        yield server.server_port
    finally:
        _exporter.address = ""
        server.shutdown()
        server.server_close()
        thread.join()


def _with_targets(metrics_app: WSGIApplication, targets: Callable[[], Iterable[str]]) -> WSGIApplication:
    """Returns an application that answers /targets, and hands every other request to `metrics_app`."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != TARGETS_PATH:
            return metrics_app(environ, start_response)
        try:
            body = msgspec.json.encode([{"targets": sorted(targets())}])
        except WireError as error:
            # Prometheus keeps the targets that it knows if the list cannot be read.
            start_response("503 Service Unavailable", [("content-type", "text/plain")])
            return [str(error).encode()]
        start_response("200 OK", [("content-type", "application/json")])
        return [body]

    return answer


def _host_for_others(host: str) -> str:
    """Returns the address at which other machines reach a listener on `host`: this machine's, if it is a wildcard.

    >>> _host_for_others("127.0.0.1")
    '127.0.0.1'
    """
    if host not in WILDCARDS:
        return host
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return socket.gethostname()


def _listen(config: MetricsConfig, registry: CollectorRegistry) -> Any:
    for port in range(config.port, min(config.port + MAX_PORTS, 65_536)):
        try:
            return start_http_server(port, config.host, registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"metrics.port: none of the {MAX_PORTS} ports from {config.port} on is free")
