"""Tests the spans that a collector gets: with their parents, at a bounded rate, and only if they are sampled."""

import re
import subprocess
import sys
import time

import pytest

from services.local.children import free_port
from tests.wire.collector import collecting
from wire import traces
from wire.config import TracesConfig
from wire.errors import TracesUnavailable
from wire.traces import ANSWER, LABEL, SPANS

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{CALLER}-01"


def made(parent: str) -> str:
    return traces.record(ANSWER, parent, start_ms=1_000, end_ms=1_250.5, attributes={"lifelong.arm": "stable"})


def test_a_span_has_the_parent_of_its_traceparent_and_a_name() -> None:
    with collecting() as collector:
        with traces.export(TracesConfig(endpoint=collector.endpoint), "replica"):
            answer = made(SAMPLED)
            traces.record(LABEL, answer, start_ms=2_000, end_ms=1_000, attributes={})
        first, second = collector.spans
    assert (first.service, first.name, first.trace, first.parent) == ("lifelong-replica", ANSWER.name, TRACE, CALLER)
    assert (first.start_ns, first.end_ns) == (1_000_000_000, 1_250_500_000)
    assert first.attributes == {"lifelong.arm": "stable"}
    assert first.traceparent == answer
    assert (second.trace, second.parent) == (TRACE, first.id)
    assert second.end_ns == second.start_ns, "clocks of two machines give no negative time"


@pytest.mark.parametrize("parent", [SAMPLED[:-1] + "0", f"00-{TRACE}-{CALLER}-", ""])
def test_an_unsampled_event_has_no_span(parent: str) -> None:
    with collecting() as collector:
        with traces.export(TracesConfig(endpoint=collector.endpoint, share=0), "replica"):
            assert made(parent) == ""
        assert not collector.spans


def test_a_share_of_the_other_events_begins_traces() -> None:
    with collecting() as collector:
        config = TracesConfig(endpoint=collector.endpoint, share=0.5, max_per_s=100_000)
        with traces.export(config, "replica"):
            answers = [made("") for _ in range(400)]
        found = [span.traceparent for span in collector.spans]
    begun = [answer for answer in answers if answer]
    assert sorted(found) == sorted(begun)
    assert 100 < len(begun) < 300  # 200 by ten standard deviations
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", answer) for answer in begun)
    assert len({span.trace for span in collector.spans}) == len(begun)


def test_the_rate_of_spans_is_bounded() -> None:
    with collecting() as collector, traces.export(TracesConfig(endpoint=collector.endpoint, max_per_s=5), "replica"):
        assert sum(bool(made(SAMPLED)) for _ in range(100)) == 5
        time.sleep(0.45)
        assert 1 <= sum(bool(made(SAMPLED)) for _ in range(100)) <= 5


@pytest.mark.parametrize("status", [0, 500])
def test_a_collector_that_is_away_or_fails_stops_no_program(status: int) -> None:
    with collecting() as collector:
        collector.status = status
        endpoint = collector.endpoint if status else f"http://127.0.0.1:{free_port()}"
        begun_s = time.monotonic()
        with traces.export(TracesConfig(endpoint=endpoint, max_per_s=100_000), "replica"):
            for _ in range(5_000):
                assert made(SAMPLED)
        assert time.monotonic() - begun_s < 12
    assert not traces.is_on()
    assert made(SAMPLED) == ""


def test_the_sdk_reads_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret")
    with collecting() as collector:
        with traces.export(TracesConfig(endpoint=collector.endpoint), "learner"):
            made(SAMPLED)
        assert collector.headers["x-token"] == "secret"


def test_without_an_endpoint_the_sdk_is_not_loaded() -> None:
    code = """
import sys
from wire import traces
from wire.config import TracesConfig
from wire.traces import ANSWER
with traces.export(TracesConfig(), "replica"):
    made = traces.record(ANSWER, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", start_ms=0, end_ms=1,
                         attributes={})
sys.exit(bool(made) or any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with (
        pytest.raises(TracesUnavailable, match=r"lifelong\[traces\]"),
        traces.export(TracesConfig(endpoint="http://127.0.0.1:1"), "replica"),
    ):
        pass
    traces.require(TracesConfig())


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://collector:4317", "http:///v1/traces"])
def test_an_invalid_address_is_refused(endpoint: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError, match=r"must be an address such as http://127\.0\.0\.1:4318"):
        TypeAdapter(TracesConfig).validate_python({"endpoint": endpoint})


def test_every_span_is_made_by_a_program_of_ours() -> None:
    assert {span.made_by for span in SPANS} == {"replica", "learner", "rollout"}
