"""One trace goes from an event, through its answer and its label, to the first version that has learnt it.

The sender begins it, by a `traceparent` in the message of the event; every program of `lifelong up` adds its spans, and
sends them to a collector of the test.
"""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.services.stack_owner import UP, Owner, owning
from tests.waiting import eventually
from tests.wire.collector import Collector, collecting
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Answer, Event, Feedback

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("broker", ["tansu"], indirect=True),
]

TEXTS = {"delivery": "where is my parcel number {}?", "billing": "I was charged twice for invoice {}"}
CALLER = "00f067aa0ba902b7"
SPANS = ["lifelong.answer", "lifelong.label", "lifelong.live", "lifelong.version"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def up(collector: Collector, bus: Bus, bus_config: BusConfig, tmp_path: Path) -> Iterator[Owner]:
    environ = {
        "LIFELONG_BUS__BOOTSTRAP_SERVERS": bus_config.bootstrap_servers,
        "LIFELONG_BUS__PREFIX": bus_config.prefix,
        "LIFELONG_TRACES__ENDPOINT": collector.endpoint,
        "LIFELONG_TRACES__SHARE": "0",
    }
    with owning(UP, tmp_path / "state", **environ) as owner:
        yield owner


def send_events(bus: Bus, first: int) -> dict[str, str]:
    """Sends events, each with a trace of its own; returns the label of each by its id, which has the trace in it."""
    labels: dict[str, str] = {}
    with closing(bus.publisher()) as publisher:
        for number, label in enumerate(list(TEXTS) * 4, first):
            trace = secrets.token_hex(16)
            headers = (("traceparent", f"00-{trace}-{CALLER}-01"),)
            publisher.send(Event(id=trace, text=TEXTS[label].format(number), source="shop", headers=headers))
            labels[trace] = label
    return labels


def answers_to(bus: Bus, ids: set[str]) -> list[Answer]:
    found: dict[str, Answer] = {}

    def is_read() -> bool:
        found.update({each.record.event_id: each.record for each in follower.poll(200).received})
        return ids <= found.keys()

    with closing(bus.follow([Answer], {})) as follower:
        eventually(is_read)
    return [answer for answer in found.values() if answer.event_id in ids]


def span_names(collector: Collector, trace: str) -> list[str]:
    return sorted(span.name for span in collector.of(trace))


def test_a_trace_leads_from_the_event_to_the_version_that_has_learnt_its_label(
    up: Owner, collector: Collector, bus: Bus
) -> None:
    whole: list[str] = []
    sent: dict[str, str] = {}

    def is_whole() -> bool:
        """Sends more, since a label is live with the next answer; whether a trace has all spans."""
        labels = send_events(bus, len(sent))
        sent.update(labels)
        with closing(bus.publisher()) as publisher:
            for answer in answers_to(bus, set(labels)):
                label = labels[answer.event_id]
                publisher.send(
                    Feedback(event_id=answer.event_id, label=label, event_source="shop", time_ms=answer.time_ms)
                )
        whole[:] = [each for each in sent if span_names(collector, each) == SPANS]
        return bool(whole)

    eventually(is_whole)
    answer, label, live, version = sorted(collector.of(whole[0]), key=lambda span: span.name)
    assert [span.service for span in (answer, label, live, version)] == [
        "lifelong-replica",
        "lifelong-learner",
        "lifelong-rollout",
        "lifelong-learner",
    ]
    assert answer.parent == CALLER
    assert label.parent == live.parent == answer.id
    assert version.parent == label.id
    assert version.attributes["lifelong.weights_version"] <= live.attributes["lifelong.weights_version"]
    assert answer.end_ns <= label.end_ns <= version.end_ns
    assert {span.trace for span in collector.spans} <= sent.keys(), "nobody else's traces, and none of our own"
