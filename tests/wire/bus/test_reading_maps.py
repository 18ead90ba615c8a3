"""Groups and followers read mapped topics together with ours. Publishers send only to our topics."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from services.local.children import free_port
from tests.brokers import take
from tests.wire.bus.traffic import events, ids, send
from tests.wire.samples import answer_to
from wire import traces
from wire.bus import Bus, readings
from wire.config import BusConfig, TracesConfig
from wire.envelope import from_message, to_message
from wire.mapping import AnswerMap, EventMap, FeedbackMap, MapConfig
from wire.message import Place
from wire.records import Answer, Event, Feedback

pytestmark = pytest.mark.live


@pytest.fixture
def mapped(bus: Bus, bus_config: BusConfig, admin: Any) -> Iterator[BusConfig]:
    """Maps two foreign topics, which exist."""
    name = f"{bus_config.prefix}crm"
    names = ("in", "out", "mail", "phone")
    admin.create_topics({f"{name}.{each}": {"num_partitions": 2, "replication_factor": 1} for each in names})
    events_map = EventMap(topic=(f"{name}.in", f"{name}.mail"), id="{id}", text="{body}")
    feedback_map = FeedbackMap(
        topic=(f"{name}.out", f"{name}.phone"), event_id="{id}", label="{queue}", event_source="{desk?}"
    )
    yield replace(bus_config, map=MapConfig(events=events_map, feedback=feedback_map))


def test_a_group_reads_both_and_a_message_that_does_not_fit_is_refused(mapped: BusConfig, foreign: Any) -> None:
    foreign.send(mapped.map.events.topic[0], value=b'{"id": 1, "bdy": "x"}').get(30)
    for number in range(5):
        body = {"id": number, "body": "hello"}
        trace = [("traceparent", b"00-ab"), ("other", b"x")]
        foreign.send(mapped.map.events.topic[0], value=json.dumps(body).encode(), headers=trace).get(30)
    with closing(Bus(mapped, "test")) as bus:
        send(bus.publisher(), *events(5))
        subscription = bus.subscribe(Event, "readers")
        received = take(subscription.poll, 10)
    assert set(ids(received)) == {*"01234", "e0", "e1", "e2", "e3", "e4"}
    assert {each.record.headers for each in received if each.record.id == "3"} == {(("traceparent", "00-ab"),)}


def test_a_follower_reads_both_and_has_the_offsets_of_both(mapped: BusConfig, foreign: Any) -> None:
    foreign.send(mapped.map.feedback.topic[0], value=b'{"id": 7, "queue": 3}').get(30)
    ours = Feedback(event_id="8", label="delivery")
    with closing(Bus(mapped, "test")) as bus:
        send(bus.publisher(), ours)
        received = take(bus.follow([Answer, Feedback], {}).poll, 2)
        topics = {name.rpartition("/")[0] for name in bus.end_offsets(Answer, Feedback)}
    assert {(each.record.event_id, each.record.label) for each in received} == {("7", "3"), ("8", "delivery")}
    assert topics == {*mapped.map.feedback.topic, mapped.topic_for(Feedback), mapped.topic_for(Answer)}


def test_several_topics_have_one_map_and_each_its_own_order(mapped: BusConfig, foreign: Any) -> None:
    """Events and labels of both topics are read, in order within a partition, and reading resumes at their offsets."""
    for topic in mapped.map.feedback.topic:
        for number in range(3):
            body = {"id": number, "queue": f"{topic}/{number}", "desk": "/crm"}
            foreign.send(topic, value=json.dumps(body).encode(), partition=1).get(30)
    for number, topic in enumerate(mapped.map.events.topic):
        foreign.send(topic, value=json.dumps({"id": number, "body": "hello"}).encode()).get(30)
    with closing(Bus(mapped, "test")) as bus:
        received = take(bus.follow([Feedback], {}).poll, 6)
        assert set(ids(take(bus.subscribe(Event, "readers").poll, 2))) == {"0", "1"}
        ends = bus.end_offsets(Feedback)
        offsets = ends | {f"{mapped.map.feedback.topic[1]}/1": 2}
        (last,) = take(bus.follow([Feedback], offsets).poll, 1)
        assert bus.check_topics((Event, Feedback), ()) == []
    for topic in mapped.map.feedback.topic:
        labels = [each.record.label for each in received if each.position.topic == topic]
        assert labels == [f"{topic}/{number}" for number in range(3)]
        assert ends[f"{topic}/1"] == 3
    assert last.record.label == f"{mapped.map.feedback.topic[1]}/2"
    assert {each.record.event_source for each in received} == {"/crm"}


@pytest.mark.parametrize("on_second_label", ["replace", "ignore"])
def test_only_labels_of_mapped_topics_replace_others(on_second_label: Any, mapped: BusConfig, foreign: Any) -> None:
    """Senders to our own topic cannot set it; senders to a mapped topic can only if the settings allow it."""
    feedback_map = replace(mapped.map.feedback, on_second_label=on_second_label)
    config = replace(mapped, map=replace(mapped.map, feedback=feedback_map))
    body = b'{"event_id": "7", "id": 7, "queue": "a", "label": "a", "replaces": true}'
    for topic in (config.topic_for(Feedback), *feedback_map.topic):
        foreign.send(topic, value=body).get(30)
    with closing(Bus(config, "test")) as bus:
        received = take(bus.follow([Feedback], {}).poll, 3)
    for each in received:
        is_mapped = each.position.topic in feedback_map.topic
        assert each.record.replaces == (is_mapped and on_second_label == "replace")


def test_an_answer_keeps_its_trace_where_traces_are_exported(bus_config: BusConfig) -> None:
    assert readings(bus_config, [Answer])[bus_config.topic_for(Answer)].passed_on == frozenset()
    with traces.export(TracesConfig(endpoint=f"http://127.0.0.1:{free_port()}"), "learner"):
        (reading,) = readings(bus_config, [Answer]).values()
    assert reading.passed_on == {"traceparent"}
    traced = answer_to("a", headers=(("traceparent", "00-ab"), ("other", "x")))
    place = Place(topic="t", partition=0, offset=0)
    assert from_message(Answer, to_message(traced), place, passed_on=reading.passed_on).headers == traced.headers[:1]


def test_a_topic_of_answers_that_has_another_name_is_ours(bus_config: BusConfig) -> None:
    config = replace(bus_config, map=MapConfig(answers=AnswerMap(topic="crm.predictions")))
    (name,) = readings(config, [Answer])
    assert name == config.topic_for(Answer) == "crm.predictions"
