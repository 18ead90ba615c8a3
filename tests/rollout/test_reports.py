"""The time from a label to the first answer of the stable arm that has learnt it."""

from collections.abc import Mapping

import msgspec
import pytest

from rollout.reports import LabelToLive
from tests.wire.collector import collecting
from wire import traces
from wire.config import TracesConfig
from wire.errors import NotFound
from wire.records import LABEL_TO_LIVE_BOUNDS_MS, NEWEST, STABLE, Answer, ArmName, Feedback

PARTITION = "feedback.v1/0"
THROUGH = {1: {PARTITION: 0}, 2: {PARTITION: 2}, 3: {PARTITION: 5}}


def trained_through(version: int) -> Mapping[str, int]:
    if version not in THROUGH:
        raise NotFound(f"version {version}")
    return THROUGH[version]


def answer(version: int, time_ms: int, arm: ArmName = STABLE) -> Answer:
    return Answer(
        event_id="e",
        text="",
        label="",
        score=1.0,
        weights_version=version,
        arm=arm,
        precision="int8",
        rollout_revision=1,
        time_ms=time_ms,
    )


def label(time_ms: int) -> Feedback:
    return Feedback(event_id="e", label="yes", time_ms=time_ms)


@pytest.fixture
def live() -> LabelToLive:
    live = LabelToLive(trained_through)
    live.add_answer(answer(1, 500))
    for offset, time_ms in enumerate((1_000, 1_100, 1_200)):
        live.add_label(label(time_ms), PARTITION, offset)
    return live


def test_the_labels_below_the_offsets_of_a_new_stable_version_are_live(live: LabelToLive) -> None:
    live.add_answer(answer(1, 1_300))
    live.add_answer(answer(3, 1_300, NEWEST))
    assert live.totals()[1] == 0
    live.add_answer(answer(2, 1_400))
    counts, sum_ms = live.totals()
    assert sum_ms == 400 + 300
    assert counts[LABEL_TO_LIVE_BOUNDS_MS.index(300)] == counts[LABEL_TO_LIVE_BOUNDS_MS.index(500)] == 1
    live.add_answer(answer(3, 91_200))
    assert live.totals()[0][-1] == 1


def test_a_label_that_is_read_after_the_answer_is_live_since_that(live: LabelToLive) -> None:
    live.add_answer(answer(3, 2_000))
    before_ms = live.totals()[1]
    live.add_label(label(1_900), PARTITION, 4)
    live.add_label(label(0), PARTITION, 4)
    assert live.totals()[1] == before_ms + 100


def test_a_version_that_is_gone_makes_nothing_live(live: LabelToLive) -> None:
    live.add_answer(answer(7, 2_000))
    assert sum(live.totals()[0]) == 0


def test_a_label_whose_answer_was_traced_ends_in_that_trace() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with collecting() as collector:
        with traces.export(TracesConfig(endpoint=collector.endpoint), "rollout"):
            live = LabelToLive(trained_through)
            live.add_answer(msgspec.structs.replace(answer(1, 500), headers=(("traceparent", parent),)))
            live.add_label(label(1_000), PARTITION, 0)
            live.add_label(label(1_100), PARTITION, 1)
            live.add_answer(answer(2, 1_400))
        (span,) = collector.spans
    assert (span.service, span.name, span.parent) == ("lifelong-rollout", "lifelong.live", "00f067aa0ba902b7")
    assert (span.start_ns, span.end_ns) == (1_000_000_000, 1_400_000_000)
    assert span.attributes == {"lifelong.weights_version": 2}
