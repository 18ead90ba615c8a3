"""Metrics for Prometheus: each process exports its last report, under fixed names and labels.

    set_report(report) ... GET /metrics --report_samples--> MetricValue(name, value, labels) --> Prometheus's format
    targets()          ... GET /targets --> the addresses of the replicas, as Prometheus's `http_sd_configs` reads them

**Metrics.** REPLICA, LEARNER and ROLLOUT list every metric with its name, kind, labels and meaning. A released name
never changes; `tests/wire/metrics.txt` has all of them. If a count of a report has no metric, only the report and
`lifelong status` have it. No code counts anything only for metrics.

**Listener.** It is off unless `metrics.port` is set. All processes of a machine have the same settings, so each process
listens on the first free port from that number on. It exports the last report that the process has written to the store
for each task, and the time of that report. So a scrape does not slow the loops of the process.

**Discovery.** The ports of replicas are not known in advance, because any number of replicas may share a machine. Each
replica's report has its address, and one process, the rollout controller, lists the addresses of all replicas.

**Exemplars.** Each bucket of the latency histogram has the trace of the last traced answer in that bucket. Prometheus
gets these exemplars if it asks for OpenMetrics.

Only this module imports Prometheus's client. There is one exporter for each process, because otherwise it would be a
parameter of every constructor.

Rejected: Prometheus's own counters throughout the code (the reports have the same counts), and one process that exports
all reports from the store (there would be no metrics while the store is unreachable).
"""

import errno
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from wire.config import MetricsConfig
from wire.errors import WireError
from wire.records import (
    LABEL_TO_LIVE_BOUNDS_MS,
    LATENCY_BOUNDS_MS,
    TIERS,
    ControllerReport,
    LearnerReport,
    ReplicaReport,
)
from wire.tasks import DEFAULT

AnyReport: TypeAlias = ReplicaReport | LearnerReport | ControllerReport

TASK = "task"
"""The label of all metrics of a named task. Metrics of the default task do not have it."""

LABEL_OUTCOMES = (
    "learnt",
    "holdout",
    "over_capacity",
    "set_aside",
    "late",
    "duplicate",
    "orphan",
    "outdated",
    "corrected",
    "withdrawn",
)
"""The outcomes of labels, besides refusal and quarantine. A learnt label may be withdrawn later."""

LOSSES = ("log_truncated", "read_again", "records_expired", "events_expired")
"""The counters of truncated logs, and of records that retention deleted before they were read (`wire.bus.losses`)."""

ROUND_OUTCOMES = ("adopted", "dropped", "not_finite")

MAX_PORTS = 64
"""Number of ports that are tried, beginning with `metrics.port`."""

TARGETS_PATH = "/targets"
WILDCARDS = ("0.0.0.0", "::", "")
"""The addresses of a listener on all interfaces."""

LATENCY = "lifelong_latency_seconds"
LABEL_TO_LIVE = "lifelong_label_to_live_seconds"

log = structlog.get_logger("metrics")

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of Prometheus. The names of counters end in `_total`. Times are in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


EVERY: Final = (
    Metric("lifelong_report_time_seconds", "gauge", "Time of the exported report (Unix time)"),
    Metric("lifelong_log_losses_total", "counter", "Truncated logs and lost records", ("kind",)),
)
"""The metrics of every process that has written a report."""

REPLICA: Final = (
    Metric("lifelong_answers_total", "counter", "Answers given", ("arm", "precision")),
    Metric("lifelong_batches_total", "counter", "Batches computed; answers per batch are the mean batch size"),
    Metric("lifelong_refusals_total", "counter", "Requests that were refused", ("reason",)),
    Metric("lifelong_dead_letters_total", "counter", "Messages that could not be read or answered"),
    Metric("lifelong_queue_items", "gauge", "Texts that wait for the model"),
    Metric("lifelong_latency_seconds", "histogram", "Time from the queue to the answer"),
    Metric("lifelong_browning_out", "gauge", "1 while a replica is overloaded and may be less accurate"),
    Metric("lifelong_plan_revision", "gauge", "Revision of the rollout plan that a replica follows"),
    Metric("lifelong_stand_in", "gauge", "1 if another version answers because the stable one cannot be loaded"),
    Metric("lifelong_swaps_total", "counter", "Swaps of weights"),
    Metric("lifelong_swap_stall_seconds", "gauge", "Longest recent pause between two batches with a swap"),
    Metric("lifelong_swap_pause_seconds", "gauge", "Longest recent pause between two batches without a swap"),
    Metric("lifelong_versions_refused_total", "counter", "Versions that a replica refused", ("reason",)),
    Metric("lifelong_promise_kept", "gauge", "1 if a promise is kept, 0 if it is not", ("promise",)),
    Metric("lifelong_replica_alarms", "gauge", "Current alarms of a replica"),
)
"""The metrics of a replica."""

LEARNER: Final = (
    Metric("lifelong_labels_total", "counter", "Labels that were read, by outcome", ("end",)),
    Metric("lifelong_lag_records", "gauge", "Answers and labels that are not read yet"),
    Metric("lifelong_late_labels", "gauge", "Late labels that wait until their answers are found"),
    Metric("lifelong_accuracy", "gauge", "Accuracy of the answers as given (prequential)", ("over",)),
    Metric("lifelong_holdout_accuracy", "gauge", "Accuracy of the published version on the holdout"),
    Metric("lifelong_forgetting", "gauge", "Accuracy that the published version has lost against its anchor"),
    Metric("lifelong_drifts_total", "counter", "Detected drifts", ("signal",)),
    Metric("lifelong_replay_samples", "gauge", "Samples in the replay memory"),
    Metric("lifelong_classes", "gauge", "Classes that have a row"),
    Metric("lifelong_version", "gauge", "Version from which the learner continues"),
    Metric("lifelong_versions_published_total", "counter", "Published versions"),
    Metric("lifelong_gate_refusals_total", "counter", "Candidates that the gate refused", ("reason",)),
    Metric("lifelong_gate_refusals_in_a_row", "gauge", "Candidates that the gate has refused since the last version"),
    Metric("lifelong_publish_seconds", "gauge", "Duration of each step of the last publication", ("step",)),
    Metric("lifelong_learn_seconds_per_label", "gauge", "Time to learn a label"),
    Metric("lifelong_rounds_total", "counter", "Slow rounds, by outcome", ("end",)),
    Metric("lifelong_rounds_begun_total", "counter", "Slow rounds that have begun, by training depth", ("tier",)),
    Metric("lifelong_failures_total", "counter", "Steps that failed and were repeated", ("step",)),
    Metric("lifelong_alarms", "gauge", "Current alarms of the learner"),
)
"""The metrics of the leading learner."""

ROLLOUT: Final = (
    Metric("lifelong_arm_answers", "gauge", "Answers of an arm at its current share", ("arm",)),
    Metric("lifelong_arm_labels", "gauge", "Labels that counted for these answers", ("arm",)),
    Metric("lifelong_arm_accuracy", "gauge", "Accuracy of an arm on its last labels", ("arm",)),
    Metric("lifelong_arm_accuracy_low", "gauge", "Lower bound of the arm's accuracy (confidence sequence)", ("arm",)),
    Metric("lifelong_arm_accuracy_high", "gauge", "Upper bound of the arm's accuracy", ("arm",)),
    Metric("lifelong_label_to_live_seconds", "histogram", "Time from a label to the first stable answer that knows it"),
    Metric("lifelong_swap_skew_seconds", "gauge", "Longest recent time between the first and the last replica's swap"),
    Metric("lifelong_rollout_failures_total", "counter", "Steps that failed and were repeated", ("step",)),
    Metric("lifelong_rollout_alarms", "gauge", "Current alarms of the rollout"),
)
"""The metrics of the leading controller."""

METRICS: Final = {metric.name: metric for metric in (*EVERY, *REPLICA, *LEARNER, *ROLLOUT)}


class MetricValue(NamedTuple):
    """One value of a metric. `labels` are the values of the metric's labels, in order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()
    task: str = DEFAULT

    def tags(self, names: Sequence[str]) -> dict[str, str]:
        """Returns name -> value of the labels. The values of a named task also have the label `task`."""
        tags = dict(zip(names, self.labels, strict=True))
        return {**tags, TASK: self.task} if self.task else tags


def report_samples(report: AnyReport) -> Iterator[MetricValue]:
    """Yields the samples of a report, except its histograms, which the exporter makes."""
    yield MetricValue("lifelong_report_time_seconds", 1e-3 * report.time_ms)
    for kind in LOSSES:
        yield MetricValue("lifelong_log_losses_total", report.counts.get(kind, 0), (kind,))
    match report:
        case ReplicaReport():
            yield from _replica_samples(report)
        case LearnerReport():
            yield from _learner_samples(report)
        case ControllerReport():
            yield from _controller_samples(report)


def _replica_samples(report: ReplicaReport) -> Iterator[MetricValue]:
    counts = report.counts
    for name, value in counts.items():
        if name.startswith("answers_by_"):
            arm, _, precision = name.removeprefix("answers_by_").rpartition("_")
            yield MetricValue("lifelong_answers_total", value, (arm, precision))
    yield MetricValue("lifelong_batches_total", counts.get("batches", 0))
    yield from _prefixed("lifelong_refusals_total", counts, "http_")
    yield MetricValue("lifelong_dead_letters_total", counts.get("dead_letters", 0))
    yield MetricValue("lifelong_queue_items", report.queue_items)
    yield MetricValue("lifelong_browning_out", counts.get("browning_out", 0))
    yield MetricValue("lifelong_plan_revision", report.revision)
    yield MetricValue("lifelong_stand_in", float(report.stand_in > 0))
    yield MetricValue("lifelong_swaps_total", report.swaps)
    yield MetricValue("lifelong_swap_stall_seconds", 1e-3 * max(report.swap_stalls_ms, default=0.0))
    yield MetricValue("lifelong_swap_pause_seconds", 1e-3 * max(report.swap_pauses_ms, default=0.0))
    for reason, value in report.refused.items():
        yield MetricValue("lifelong_versions_refused_total", value, (reason,))
    for promise in report.promises:
        if promise.is_met is not None:
            yield MetricValue("lifelong_promise_kept", float(promise.is_met), (promise.name,))
    yield MetricValue("lifelong_replica_alarms", len(report.alarms))


def _learner_samples(report: LearnerReport) -> Iterator[MetricValue]:
    counts = report.counts
    for end in LABEL_OUTCOMES:
        yield MetricValue("lifelong_labels_total", counts.get(end, 0), (end,))
    for name, value in counts.items():
        if name.startswith(("refused_", "quarantined_")):
            yield MetricValue("lifelong_labels_total", value, (name,))
        if name.endswith("_failed"):
            yield MetricValue("lifelong_failures_total", value, (name.removesuffix("_failed"),))
        if name.startswith("gate_") and name != "gate_in_a_row":
            yield MetricValue("lifelong_gate_refusals_total", value, (name.removeprefix("gate_"),))
    yield MetricValue("lifelong_gate_refusals_in_a_row", counts.get("gate_in_a_row", 0))
    yield MetricValue("lifelong_lag_records", report.lag)
    yield MetricValue("lifelong_late_labels", counts.get("late_searched", 0) + counts.get("late_waiting", 0))
    yield MetricValue("lifelong_accuracy", report.accuracy, ("all",))
    yield MetricValue("lifelong_accuracy", report.recent_accuracy, ("recent",))
    yield MetricValue("lifelong_holdout_accuracy", report.evaluation.accuracy)
    lost = report.evaluation.anchor_accuracy - report.evaluation.accuracy_beside_anchor
    yield MetricValue("lifelong_forgetting", max(0.0, lost))
    yield from _prefixed("lifelong_drifts_total", counts, "drift_")
    yield MetricValue("lifelong_replay_samples", report.replay_samples)
    yield MetricValue("lifelong_classes", report.num_classes)
    yield MetricValue("lifelong_version", report.version)
    yield MetricValue("lifelong_versions_published_total", counts.get("published", 0))
    for step, value_ms in report.publish_ms.items():
        yield MetricValue("lifelong_publish_seconds", 1e-3 * value_ms, (step,))
    yield MetricValue("lifelong_learn_seconds_per_label", 1e-3 * report.learn_ms_per_label)
    for end in ROUND_OUTCOMES:
        yield MetricValue("lifelong_rounds_total", counts.get(f"rounds_{end}", 0), (end,))
    for tier in TIERS:
        yield MetricValue("lifelong_rounds_begun_total", counts.get(f"rounds_{tier}", 0), (tier,))
    yield MetricValue("lifelong_alarms", len(report.alarms))


def _controller_samples(report: ControllerReport) -> Iterator[MetricValue]:
    for rate in report.label_rates:
        yield MetricValue("lifelong_arm_answers", rate.answers, (rate.arm,))
        yield MetricValue("lifelong_arm_labels", rate.labels, (rate.arm,))
    for accuracy in report.arm_accuracies:
        yield MetricValue("lifelong_arm_accuracy", accuracy.right / accuracy.labels, (accuracy.arm,))
        yield MetricValue("lifelong_arm_accuracy_low", accuracy.low, (accuracy.arm,))
        yield MetricValue("lifelong_arm_accuracy_high", accuracy.high, (accuracy.arm,))
    if report.swap_skews_ms:
        yield MetricValue("lifelong_swap_skew_seconds", 1e-3 * max(report.swap_skews_ms))
    yield from _prefixed("lifelong_rollout_failures_total", report.counts, "failed_")
    yield MetricValue("lifelong_rollout_alarms", len(report.alarms))


def _prefixed(name: str, counts: Mapping[str, int], prefix: str) -> Iterator[MetricValue]:
    """Yields the counts whose names begin with `prefix`. The rest of the name becomes the label."""
    for count, value in counts.items():
        if count.startswith(prefix):
            yield MetricValue(name, value, (count.removeprefix(prefix),))


class _Exporter(Collector):
    """The last reports of this process, by task. Any thread may call `set_report` and `collect`."""

    def __init__(self) -> None:
        self._reports: Mapping[str, AnyReport] = {}
        self._exemplars: dict[int, Exemplar] = {}
        self.address = ""

    def set_report(self, report: AnyReport, task: str) -> None:
        """Replaces the exported report of a task."""
        # A new mapping, so that a concurrent scrape reads a consistent one without a lock.
        self._reports = {**self._reports, task: report}

    def note(self, seconds: float, traceparent: str) -> None:
        """Makes a traced answer the exemplar of its latency's bucket."""
        _, trace_id, *_ = traceparent.split("-")
        bucket = bisect_left(LATENCY_BOUNDS_MS, 1e3 * seconds)
        self._exemplars[bucket] = Exemplar({"trace_id": trace_id}, seconds, time.time())

    def samples(self) -> dict[Metric, list[MetricValue]]:
        """Returns the current samples by metric, without the histograms."""
        return _by_metric(self._reports)

    def collect(self) -> Iterator[Family]:
        """Yields all metrics. Prometheus's client calls it for each scrape."""
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
    samples: dict[Metric, list[MetricValue]] = {}
    for task, report in reports.items():
        for sample in report_samples(report):
            samples.setdefault(METRICS[sample.name], []).append(sample._replace(task=task))
    return samples


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
    """Converts counts to a histogram of Prometheus, whose buckets are cumulative.

    `exemplars` maps the index of a bucket to its exemplar.
    """
    total = 0
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    bounds = [*(f"{1e-3 * bound_ms:g}" for bound_ms in bounds_ms), "+Inf"]
    for index, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
        total += count
        # A bucket may have an exemplar whose answer is not in the report yet.
        exemplar = exemplars.get(index) if count else None
        buckets.append((bound, total, exemplar) if exemplar else (bound, total))
    family = HistogramMetricFamily(name, METRICS[name].help, labels=(TASK,) if task else ())
    family.add_metric((task,) if task else (), buckets, 1e-3 * sum_ms)
    return family


_exporter = _Exporter()


def set_report(report: AnyReport, task: str = DEFAULT) -> None:
    """Makes `report` the exported report of a task. Any thread may call it."""
    _exporter.set_report(report, task)


def note_latency(seconds: float, traceparent: str) -> None:
    """Makes a traced answer an exemplar of the histogram of latencies. Any thread may call it."""
    _exporter.note(seconds, traceparent)


def latest() -> dict[Metric, list[MetricValue]]:
    """Returns the current samples by metric, without the histograms."""
    return _exporter.samples()


def address() -> str:
    """Returns the host and port at which other machines reach this process's /metrics; "" if it is off."""
    return _exporter.address


@contextmanager
def serve(config: MetricsConfig, *, targets: Callable[[], Iterable[str]] | None = None) -> Iterator[int]:
    """Serves /metrics while the block runs, and yields the port (0: it is off). Raises OSError if no port is free.

    `targets` returns the addresses that /targets lists; without it, there is no /targets.
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
    """Returns an application that answers /targets, and passes all other requests to `metrics_app`."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != TARGETS_PATH:
            return metrics_app(environ, start_response)
        try:
            body = msgspec.json.encode([{"targets": sorted(targets())}])
        except WireError as error:
            # If the list cannot be read, Prometheus keeps the targets that it knows.
            start_response("503 Service Unavailable", [("content-type", "text/plain")])
            return [str(error).encode()]
        start_response("200 OK", [("content-type", "application/json")])
        return [body]

    return answer


def _host_for_others(host: str) -> str:
    """Returns the address at which other machines reach a listener on `host`. For a wildcard, it is this machine's
    address.

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
