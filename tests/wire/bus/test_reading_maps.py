"""Mapped topics are read beside ours, by groups and by followers, and only ours are sent to."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from services.local.tether import free_port
from tests.brokers import take
from tests.wire.bus.traffic import events, ids, send
from tests.wire.samples import answer_to
from wire import traces
from wire.bus import Bus, readings
from wire.config import BusConfig, TracesConfig
from wire.envelope import from_message, to_message
from wire.mapping.config import AnswerMap, EventMap, FeedbackMap, MapConfig
from wire.message import Place
from wire.records import Answer, Event, Feedback

pytestmark = pytest.mark.live


@pytest.fixture
def mapped(bus: Bus, bus_config: BusConfig, admin: Any) -> Iterator[BusConfig]:
    """Maps two foreign topics, which exist."""
    name = f"{bus_config.prefix}crm"
    admin.create_topics({f"{name}.{each}": {"num_partitions": 2, "replication_factor": 1} for each in ("in", "out")})
    events_map = EventMap(topic=f"{name}.in", id="{id}", text="{body}")
    feedback_map = FeedbackMap(topic=f"{name}.out", event_id="{id}", label="{queue}")
    yield replace(bus_config, map=MapConfig(events=events_map, feedback=feedback_map))


def test_a_group_reads_both_and_a_message_that_does_not_fit_is_refused(mapped: BusConfig, foreign: Any) -> None:
    foreign.send(mapped.map.events.topic, value=b'{"id": 1, "bdy": "x"}').get(30)
    for number in range(5):
        body = {"id": number, "body": "hello"}
        trace = [("traceparent", b"00-ab"), ("other", b"x")]
        foreign.send(mapped.map.events.topic, value=json.dumps(body).encode(), headers=trace).get(30)
    with closing(Bus(mapped, "test")) as bus:
        send(bus.publisher(), *events(5))
        subscription = bus.subscribe(Event, "readers")
        received = take(subscription.poll, 10)
    assert set(ids(received)) == {*"01234", "e0", "e1", "e2", "e3", "e4"}
    assert {each.record.headers for each in received if each.record.id == "3"} == {(("traceparent", "00-ab"),)}


def test_a_follower_reads_both_and_has_the_offsets_of_both(mapped: BusConfig, foreign: Any) -> None:
    foreign.send(mapped.map.feedback.topic, value=b'{"id": 7, "queue": 3}').get(30)
    ours = Feedback(event_id="8", label="delivery")
    with closing(Bus(mapped, "test")) as bus:
        send(bus.publisher(), ours)
        received = take(bus.follow([Answer, Feedback], {}).poll, 2)
        topics = {name.rpartition("/")[0] for name in bus.end_offsets(Answer, Feedback)}
    assert {(each.record.event_id, each.record.label) for each in received} == {("7", "3"), ("8", "delivery")}
    assert topics == {mapped.map.feedback.topic, mapped.topic_of(Feedback), mapped.topic_of(Answer)}


def test_an_answer_keeps_its_trace_where_traces_are_exported(bus_config: BusConfig) -> None:
    assert readings(bus_config, [Answer])[bus_config.topic_of(Answer)].passed_on == frozenset()
    with traces.exported(TracesConfig(endpoint=f"http://127.0.0.1:{free_port()}"), "learner"):
        (reading,) = readings(bus_config, [Answer]).values()
    assert reading.passed_on == {"traceparent"}
    traced = answer_to("a", headers=(("traceparent", "00-ab"), ("other", "x")))
    place = Place(topic="t", partition=0, offset=0)
    assert from_message(Answer, to_message(traced), place, passed_on=reading.passed_on).headers == traced.headers[:1]


def test_a_topic_of_answers_that_has_another_name_is_ours(bus_config: BusConfig) -> None:
    config = replace(bus_config, map=MapConfig(answers=AnswerMap(topic="crm.predictions")))
    (name,) = readings(config, [Answer])
    assert name == config.topic_of(Answer) == "crm.predictions"
