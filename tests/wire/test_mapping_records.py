"""Tests that maps and the envelope turn foreign messages into records, in both modes of CloudEvents."""

import base64
import json
from typing import Any

import pytest

from tests.wire.samples import SAMPLES
from wire.config import BusConfig
from wire.envelope import from_message, to_message
from wire.errors import BadMessage
from wire.mapping import AnswerFields, AnswerMap, EventMap, FeedbackMap, MapConfig, field_map
from wire.message import Message, Place
from wire.records import Answer, Event, Feedback

EVENTS = EventMap(topic=("crm.messages",), id="{ticket_id}", text="{subject?}{body}", key="{customer.id?}")
FEEDBACK = FeedbackMap(topic=("crm.resolutions",), event_id="{ticket_id}", label="{queue}", source="{agent?}")
PLACE = Place(topic="crm.messages", partition=1, offset=7)
TICKET = {"ticket_id": 4711, "body": "Where is my parcel?", "customer": {"id": 12}}
ANSWER = next(sample for sample in SAMPLES if isinstance(sample, Answer))


def message(body: Any, **headers: str) -> Message:
    pairs = tuple((name.replace("__", "-"), text.encode()) for name, text in headers.items())
    return Message(key=b"k", value=json.dumps(body).encode(), headers=pairs, timestamp_ms=5)


def event(given: Message, section: EventMap = EVENTS) -> Event:
    return from_message(Event, given, PLACE, foreign=field_map(section), passed_on=frozenset({"traceparent"}))


def test_a_foreign_message_becomes_an_event() -> None:
    made = event(message(TICKET, traceparent="00-ab"))
    assert made == Event(
        id="4711", text="Where is my parcel?", key="12", time_ms=5, headers=(("traceparent", "00-ab"),)
    )


def test_a_foreign_message_becomes_a_label() -> None:
    given = message({"ticket_id": 4711, "queue": 3, "agent": "eve"})
    made = from_message(Feedback, given, PLACE, foreign=field_map(FEEDBACK))
    assert made == Feedback(event_id="4711", label="3", source="eve", time_ms=5)


def test_a_foreign_label_may_name_the_source_of_its_event() -> None:
    section = FeedbackMap(topic=("crm.r",), event_id="{id}", label="{queue}", event_source="/{system}")
    given = message({"id": 7, "queue": "a", "system": "crm"})
    assert from_message(Feedback, given, PLACE, foreign=field_map(section)).event_source == "/crm"


def test_fields_without_a_template_come_from_the_message() -> None:
    made = event(
        message(TICKET, ce_id="a", ce_source="/crm", ce_type="crm.ticket.v9"), EventMap(topic=("t",), text="{body}")
    )
    assert (made.id, made.source, made.key) == ("a", "/crm", "k")
    plain = event(message(TICKET), EventMap(topic=("t",), text="{body}"))
    assert plain.id == str(PLACE)


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "application/cloudevents+json; charset=UTF-8"]
)
def test_structured_events_are_read(content_type: str) -> None:
    whole = {"specversion": "1.0", "id": "a", "source": "/crm", "type": "crm.ticket", "time": "2026-01-31T00:00:00Z"}
    made = event(message(whole | {"data": TICKET}, content__type=content_type))
    assert (made.id, made.text, made.source) == ("4711", "Where is my parcel?", "/crm")
    packed = base64.b64encode(json.dumps(TICKET).encode()).decode()
    assert event(message(whole | {"data_base64": packed}, content__type=content_type)) == made
    ours = whole | {"type": Event.TYPE, "data": {"text": "hello"}}
    assert from_message(Event, message(ours, content__type=content_type), PLACE).id == "a"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"specversion": "1.0", "data": [1]}, "wrong_schema"),
        ({"specversion": "1.0"}, "wrong_schema"),
        ({"specversion": 1, "data": TICKET}, "wrong_schema"),
        ({"specversion": "2.0", "data": TICKET}, "future_schema"),
        ({"specversion": "1.0", "data_base64": "?"}, "undecodable"),
        ({"specversion": "1.0", "data_base64": 3}, "undecodable"),
        ({"specversion": "1.0", "data": {"ticket_id": 3}}, "wrong_schema"),
    ],
)
def test_an_invalid_structured_event_is_refused(body: Any, reason: str) -> None:
    with pytest.raises(BadMessage) as caught:
        event(message(body, content__type="application/cloudevents+json"))
    assert caught.value.reason == reason


def test_a_structured_event_without_its_content_type_is_refused_with_the_fix() -> None:
    whole = {"specversion": "1.0", "type": "crm.ticket", "id": "a", "source": "/crm", "data": TICKET}
    with pytest.raises(BadMessage) as caught:
        event(message(whole))
    assert "Send the header content-type: application/cloudevents+json, or write {data.ticket_id}" in str(caught.value)
    section = EventMap(topic=("crm.messages",), id="{data.ticket_id}", text="{data.body}")
    assert event(message(whole), section).id == "4711"


def test_a_batch_is_refused_by_name() -> None:
    with pytest.raises(BadMessage, match="batch of CloudEvents"):
        event(message({}, content__type="application/cloudevents-batch+json"))


def test_a_foreign_type_is_refused_if_nothing_is_mapped() -> None:
    with pytest.raises(BadMessage, match=r"ce_type is 'crm\.ticket'"):
        from_message(Event, message({"text": "hello"}, ce_type="crm.ticket"), PLACE)


def test_our_own_messages_are_read_in_a_foreign_topic() -> None:
    ours = Event(id="a", text="hello", key="k")
    assert event(to_message(ours)) == ours


@pytest.mark.parametrize("header", [b"\xff", b"x" * 2_000, None])
def test_a_header_that_cannot_be_copied_is_omitted(header: bytes | None) -> None:
    given = Message(key=None, value=b'{"text": "hello"}', headers=(("traceparent", header),))
    assert from_message(Event, given, PLACE, passed_on=frozenset({"traceparent"})).headers == ()


def test_a_client_cannot_set_headers_by_the_json_object() -> None:
    given = message({"text": "hello", "headers": [["x", "y"]]})
    assert from_message(Event, given, PLACE).headers == ()


def test_an_answer_has_further_fields_and_the_headers_of_its_event() -> None:
    fields = AnswerFields(AnswerMap(fields={"ticket": "{event_id}", "sure": "{score}", "queue": "to {label}"})).of(
        ANSWER
    )
    assert fields == {"ticket": "e-17", "sure": 0.75, "queue": "to card_declined"}
    sent = to_message(ANSWER, fields)
    assert sent.value is not None and json.loads(sent.value)["sure"] == 0.75
    assert from_message(Answer, sent, PLACE) == ANSWER
    traced = Answer(
        event_id="a", text="", label=None, score=0.0, weights_version=1, arm="stable", precision="w8c",
        rollout_revision=1, headers=(("traceparent", "00-ab"), ("ce_id", "no")),
    )  # fmt: skip
    assert dict(to_message(traced).headers)["traceparent"] == b"00-ab"
    assert dict(to_message(traced).headers)["ce_id"] == b"a"
    assert AnswerFields(AnswerMap(fields={"queue": "{label}"})).of(traced) == {"queue": None}


def test_the_answers_may_have_a_topic_of_their_own() -> None:
    config = BusConfig(prefix="eu.", map=MapConfig(answers=AnswerMap(topic="crm.predictions")))
    assert (config.topic_for(Answer), config.topic_for(Event)) == ("crm.predictions", "eu.events.v1")


def test_fields_become_features_of_their_own_type() -> None:
    section = EventMap(
        topic=("shop.payments",),
        features={"amount": "{payment.amount}", "country": "{country?}", "known": "{known}", "place": "{a}/{b}"},
    )
    body = {"payment": {"amount": 12}, "known": True, "a": 1, "b": "x"}
    made = event(message(body), section)
    assert made.features == {"amount": 12.0, "known": "true", "place": "1/x"}
    assert made.text == ""
    with pytest.raises(BadMessage, match=r"`payment.amount` is missing .setting bus.map.events.features.amount"):
        event(message({"payment": {}, "known": False, "a": 1, "b": 2}), section)


def test_a_map_of_events_needs_a_text_or_features() -> None:
    with pytest.raises(ValueError, match=r"bus.map.events.topic needs bus.map.events.text"):
        EventMap(topic=("shop.payments",))
    with pytest.raises(ValueError, match=r"bus.map.events.features.a: character 1"):
        EventMap(topic=("shop.payments",), features={"a": "{"})


def test_a_list_of_a_foreign_message_becomes_a_set_of_labels() -> None:
    section = FeedbackMap(topic=("crm.resolutions",), event_id="{ticket_id}", labels="{tags}")
    made = from_message(Feedback, message({"ticket_id": 7, "tags": ["b", 3]}), PLACE, foreign=field_map(section))
    assert (made.event_id, made.label, made.labels) == ("7", "", ("b", "3"))


def test_a_number_of_a_foreign_message_becomes_a_score_even_as_text() -> None:
    section = FeedbackMap(topic=("crm.resolutions",), event_id="{ticket_id}", value="{points}")
    for points in (4.5, "4.5"):
        given = message({"ticket_id": 7, "points": points})
        assert from_message(Feedback, given, PLACE, foreign=field_map(section)).value == 4.5


@pytest.mark.parametrize(
    ("made", "sent", "told"),
    [
        (
            "label",
            ["a", "b"],
            """feedback.label is '["a","b"]', and a label is one name: `labels` takes""",
        ),
        ("label", {"name": "a"}, "a label is one name"),
        ("labels", "b, a", """feedback.labels is '"b, a"', and a set of labels is a list of names"""),
        ("labels", [["a"]], "a list of names"),
        ("value", "high", """bus.map.feedback.value is '"high"', and a score is a number"""),
        ("value", True, "a score is a number"),
        ("value", "nan", "not a finite number"),
    ],
)
def test_a_label_of_another_form_names_the_setting_and_what_it_wants(made: str, sent: Any, told: str) -> None:
    templates = {name: "{x}" if name == made else "" for name in ("label", "labels", "value")}
    section = FeedbackMap(topic=("crm.resolutions",), event_id="{ticket_id}", **templates)  # type: ignore[arg-type]
    with pytest.raises(BadMessage) as caught:
        from_message(Feedback, message({"ticket_id": 7, "x": sent}), PLACE, foreign=field_map(section))
    assert (caught.value.reason, told in caught.value.detail) == ("wrong_schema", True), caught.value.detail


def test_a_map_names_the_tasks_of_events_and_labels() -> None:
    section = EventMap(topic=("crm.messages",), text="{body}", tasks="{kind}, urgency")
    assert event(message({"body": "help", "kind": "queue"}), section).tasks == ("queue", "urgency")
    urgency = FeedbackMap(topic=("crm.resolutions",), event_id="{ticket_id}", label="{urgency}", task="urgency")
    given = message({"ticket_id": 4711, "urgency": "high"})
    assert from_message(Feedback, given, PLACE, foreign=field_map(urgency)).task == "urgency"
