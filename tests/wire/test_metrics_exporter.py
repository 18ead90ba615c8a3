"""Tests scrapes over HTTP with Prometheus's own parser, and the ports of the listener."""

import socket
from contextlib import closing

import httpx2
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.wire.stored_samples import SAMPLES
from tests.wire.test_metrics_samples import REPLICA_REPORT
from wire import metrics
from wire.config import MetricsConfig
from wire.errors import StoreUnavailable
from wire.metrics import METRICS
from wire.records import ControllerReport, ReplicaReport


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scraped(port: int) -> dict[tuple[str, ...], float]:
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        found |= {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}
    return found


def test_the_last_report_is_exported_with_its_histogram() -> None:
    report = SAMPLES["replica_report.v1"]
    assert isinstance(report, ReplicaReport)
    metrics.set_report(REPLICA_REPORT)
    with metrics.serve(MetricsConfig(port=free_port())) as port:
        before = scraped(port)
        metrics.set_report(report)
        found = scraped(port)
    assert before["lifelong_answers_total", "stand-in", "int8"] == 5
    assert ("lifelong_latency_seconds_count",) not in before
    assert found["lifelong_latency_seconds_bucket", "0.01"] == 80
    assert found["lifelong_latency_seconds_bucket", "+Inf"] == 100
    assert found["lifelong_latency_seconds_sum",] == 1.25
    ours = {name for name, *_ in found if name.startswith("lifelong_") and "latency" not in name}
    assert ours <= METRICS.keys()
    assert "process_resident_memory_bytes" in {name for name, *_ in found}


def test_the_controller_exports_the_times_from_label_to_live() -> None:
    report = SAMPLES["controller_report.v1"]
    assert isinstance(report, ControllerReport)
    metrics.set_report(report)
    with metrics.serve(MetricsConfig(port=free_port())) as port:
        found = scraped(port)
    assert found["lifelong_label_to_live_seconds_bucket", "0.5"] == 12
    assert found["lifelong_label_to_live_seconds_count",] == 15
    assert found["lifelong_label_to_live_seconds_sum",] == 7.5


def test_processes_of_one_machine_take_one_port_after_the_other() -> None:
    config = MetricsConfig(port=free_port())
    with metrics.serve(config) as first, metrics.serve(config) as second:
        assert first == config.port
        assert first < second < first + 64
        assert scraped(second).keys() == scraped(first).keys()


def test_the_addresses_of_all_replicas_are_listed_for_prometheus() -> None:
    found = ["10.0.0.2:9465", "10.0.0.2:9464"]
    with metrics.serve(MetricsConfig(port=free_port()), targets=lambda: found) as port:
        listed = httpx2.get(f"http://127.0.0.1:{port}/targets")
        assert ("process_resident_memory_bytes",) in scraped(port)
    assert listed.headers["content-type"] == "application/json"
    assert listed.json() == [{"targets": ["10.0.0.2:9464", "10.0.0.2:9465"]}]


def test_a_store_that_is_away_is_an_error_so_that_prometheus_keeps_its_targets() -> None:
    def away() -> list[str]:
        raise StoreUnavailable("no Redis answers")

    with metrics.serve(MetricsConfig(port=free_port()), targets=away) as port:
        assert httpx2.get(f"http://127.0.0.1:{port}/targets").status_code == 503


def test_a_process_knows_the_address_of_its_metrics_while_it_serves_them() -> None:
    assert metrics.address() == ""
    with metrics.serve(MetricsConfig(port=free_port())) as port:
        assert metrics.address() == f"127.0.0.1:{port}"
        assert httpx2.get(f"http://127.0.0.1:{port}/targets").headers["content-type"] != "application/json"
    assert metrics.address() == ""


def test_the_address_of_a_listener_on_all_interfaces_is_the_machines() -> None:
    with metrics.serve(MetricsConfig(host="0.0.0.0", port=free_port())) as port:
        assert metrics.address() in {f"{socket.gethostbyname(socket.gethostname())}:{port}"}


def test_without_a_port_nothing_listens() -> None:
    with metrics.serve(MetricsConfig()) as port:
        assert port == 0


def test_openmetrics_has_traces_of_answers_as_exemplars_of_the_latency() -> None:
    report = SAMPLES["replica_report.v1"]
    assert isinstance(report, ReplicaReport)
    metrics.set_report(report)
    for seconds, number in ((0.006, 1), (0.0075, 2), (3_600.0, 3)):
        metrics.note_latency(seconds, f"00-{number:032x}-00f067aa0ba902b7-01")
    with metrics.serve(MetricsConfig(port=free_port())) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        told = httpx2.get(url, headers={"accept": "application/openmetrics-text; version=1.0.0"}).text
        plain = httpx2.get(url).text
    families = openmetrics.text_string_to_metric_families(told)  # type: ignore[no-untyped-call]
    (family,) = [each for each in families if "latency" in each.name]
    exemplars = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    (exemplar,) = exemplars.values()
    assert [*exemplars] == ["0.01"], "no answer took an hour by the report, so that bucket has none"
    assert (exemplar.labels, exemplar.value) == ({"trace_id": f"{2:032x}"}, 0.0075)
    assert "trace_id" not in plain
