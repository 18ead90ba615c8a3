"""A label continues the trace of its answer, up to the first version that knows it."""

from collections.abc import Iterator

import msgspec
import pytest

from learner.label_traces import LabelTraces
from learner.samples import Sample
from tests.wire.collector import Collector, collecting
from tests.wire.samples import answer_to
from wire import traces
from wire.config import TracesConfig
from wire.records import Answer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def answer(event_id: str) -> Answer:
    return msgspec.structs.replace(answer_to(event_id), source="shop", headers=(("traceparent", PARENT),))


def sample(event_id: str, *, is_in_holdout: bool = False) -> Sample:
    return Sample(
        event_id=event_id,
        text="hello",
        label="greeting",
        predicted_label=None,
        arm="stable",
        weights_version=1,
        feedback_time_ms=0,
        subject="",
        is_in_holdout=is_in_holdout,
        event_source="shop",
    )


def names(collector: Collector) -> list[str]:
    return [span.name for span in collector.spans]


def test_a_label_is_followed_to_the_first_version_that_knows_it(collector: Collector) -> None:
    with traces.export(TracesConfig(endpoint=collector.endpoint), "learner"):
        label_traces = LabelTraces()
        label_traces.on_published(1, 0, now_ms=900)
        label_traces.on_learnt([answer("a"), answer("b")], [sample("a")], num_effects=1, begun_ms=1_000, now_ms=1_010)
        label_traces.on_published(1, 0, now_ms=1_020)
        label_traces.on_learnt([], [sample("b"), sample("c")], num_effects=3, begun_ms=1_030, now_ms=1_040)
        label_traces.on_published(2, 2, now_ms=1_100)
        label_traces.on_published(2, 3, now_ms=1_150)
        label_traces.on_published(3, 3, now_ms=1_200)
        label_traces.on_published(4, 9, now_ms=1_300)
    first, second = collector.of(TRACE, "lifelong.label")
    versions = collector.of(TRACE, "lifelong.version")
    assert [(span.parent, span.attributes["lifelong.weights_version"]) for span in versions] == [
        (first.id, 2),
        (second.id, 3),
    ]
    assert first.parent == second.parent == "00f067aa0ba902b7"
    assert [(span.start_ns // 1_000_000, span.end_ns // 1_000_000) for span in versions] == [
        (1_010, 1_100),
        (1_040, 1_200),
    ]
    assert len(collector.spans) == 4, "c has no answer that is known, and each label has one version"


def test_the_holdout_is_learnt_by_no_version(collector: Collector) -> None:
    with traces.export(TracesConfig(endpoint=collector.endpoint), "learner"):
        label_traces = LabelTraces()
        samples = [sample("a", is_in_holdout=True)]
        label_traces.on_learnt([answer("a")], samples, num_effects=1, begun_ms=1_000, now_ms=1_010)
        label_traces.on_published(2, 9, now_ms=1_100)
    assert names(collector) == ["lifelong.label"]
    assert collector.spans[0].attributes == {"lifelong.in_holdout": True}


def test_what_was_set_aside_is_in_no_version(collector: Collector) -> None:
    with traces.export(TracesConfig(endpoint=collector.endpoint), "learner"):
        label_traces = LabelTraces()
        label_traces.on_published(5, 0, now_ms=900)
        label_traces.on_learnt([answer("a")], [sample("a")], num_effects=1, begun_ms=1_000, now_ms=1_010)
        label_traces.on_published(4, 1, now_ms=1_100)
        label_traces.on_published(6, 1, now_ms=1_200)
    assert names(collector) == ["lifelong.label"]


def test_where_no_traces_are_exported_nothing_is_kept(collector: Collector) -> None:
    label_traces = LabelTraces()
    label_traces.on_learnt([answer("a")], [], num_effects=0, begun_ms=1_000, now_ms=1_010)
    with traces.export(TracesConfig(endpoint=collector.endpoint), "learner"):
        label_traces.on_learnt([], [sample("a")], num_effects=1, begun_ms=1_000, now_ms=1_010)
    assert not collector.spans


def test_a_version_has_the_time_when_the_oldest_of_its_labels_was_read() -> None:
    label_traces = LabelTraces()
    found: list[float] = []
    for num_effects, begun_ms in ((1, 100), (2, 200), (4, 300)):
        label_traces.on_learnt([], [sample("a")], num_effects=num_effects, begun_ms=begun_ms, now_ms=begun_ms + 10)
    label_traces.on_learnt([], [], num_effects=4, begun_ms=400, now_ms=410)
    for version, num_effects in ((1, 2), (1, 2), (2, 3), (3, 4), (4, 4)):
        label_traces.on_published(version, num_effects, now_ms=1_000)
        found.append(label_traces.read_ms)
    assert found == [100, 100, 0, 300, 0]


def test_what_was_set_aside_has_no_time_of_reading() -> None:
    label_traces = LabelTraces()
    label_traces.on_published(5, 0, now_ms=1_000)
    label_traces.on_learnt([], [sample("a")], num_effects=1, begun_ms=100, now_ms=110)
    label_traces.on_published(4, 0, now_ms=1_000)
    label_traces.on_published(6, 1, now_ms=1_000)
    assert label_traces.read_ms == 0
