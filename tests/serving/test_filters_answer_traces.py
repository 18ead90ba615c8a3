"""The answer of a traced event goes on with that trace, and is an exemplar; others stay as they are."""

import time
from collections.abc import Iterator

import msgspec
import pytest

from serving.filters import AnswerTraces, apply_filters, build_filters
from serving.queue import Batch, Item, ItemFailure, Outcome
from tests.serving.versions import RECEIPTS
from tests.wire.collector import Collector, collecting
from tests.wire.samples import answer_to
from wire import traces
from wire.config import TracesConfig
from wire.records import Answer, Event

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = ("tracestate", "a=1")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def batch(*outcomes: Outcome) -> Batch[Item]:
    """Returns the batch of these outcomes, whose texts came a quarter of a second apart."""
    items = [Item(event=Event(id="e", text="t"), token_ids=[1], done=lambda outcome: None) for _ in outcomes]
    return Batch(items, 10.0, [10.0 - 0.25 * index for index in range(len(items))])


def answer(parent: str) -> Answer:
    return msgspec.structs.replace(answer_to("a"), headers=(OTHER, ("traceparent", parent)))


def of(*outcomes: Outcome) -> list[Outcome]:
    return apply_filters(build_filters(0.0, RECEIPTS), batch(*outcomes), outcomes, began_s=10.1, ended_s=10.5)


def test_without_an_exporter_there_is_no_filter(collector: Collector) -> None:
    assert build_filters(0.0, RECEIPTS) == []
    with traces.export(TracesConfig(endpoint=collector.endpoint), "replica"):
        assert [type(each) for each in build_filters(0.0, RECEIPTS)] == [AnswerTraces]


def test_an_answer_names_its_own_span_below_that_of_its_event(collector: Collector) -> None:
    failure = ItemFailure(event=Event(id="e", text="t"), reason="model_failed")
    untraced = answer(PARENT[:-1] + "0")
    with traces.export(TracesConfig(endpoint=collector.endpoint, share=0), "replica"):
        found = of(answer_to("b"), failure, untraced, answer(PARENT))
    assert found[:3] == [answer_to("b"), failure, untraced]
    (span,) = collector.spans
    last = found[3]
    assert isinstance(last, Answer)
    assert last.headers == (OTHER, ("traceparent", span.traceparent))
    assert (span.parent, span.trace) == ("00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert span.attributes["lifelong.queue_ms"] == pytest.approx(850)
    assert 1e-9 * (span.end_ns - span.start_ns) == pytest.approx(1.25)
    assert 1e-9 * span.end_ns == pytest.approx(time.time(), abs=60)
    assert msgspec.structs.replace(last, headers=()) == msgspec.structs.replace(answer(PARENT), headers=())


def test_an_event_without_a_trace_may_begin_one(collector: Collector) -> None:
    with traces.export(TracesConfig(endpoint=collector.endpoint, share=1), "replica"):
        (found,) = of(answer_to("b"))
    (span,) = collector.spans
    assert isinstance(found, Answer)
    assert found.headers == (("traceparent", span.traceparent),)
    assert span.parent == ""
