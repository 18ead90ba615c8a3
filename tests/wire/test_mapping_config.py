"""Tests the settings of maps: which are refused, and with which fix."""

from typing import Any

import pytest

from services.settings import BadSettings, load

EVENTS = {"bus.map.events.topic": "crm", "bus.map.events.text": "{body}"}
LABELS = {
    "bus.map.feedback.topic": "crm",
    "bus.map.feedback.event_id": "{ticket_id}",
    "bus.map.feedback.label": "{queue}",
}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"bus.map.events.text": "{body}"}, "bus.map.events.topic is required"),
        ({"bus.map.events.topic": "crm"}, "bus.map.events.topic needs bus.map.events.text"),
        ({"bus.map.feedback.topic": "crm"}, "needs bus.map.feedback.event_id, bus.map.feedback.label"),
        (EVENTS | {"bus.map.events.text": "{body"}, "bus.map.events.text: character 1"),
        (LABELS | {"bus.map.feedback.labels": "{tags}"}, "set only one of them. Remove the others"),
        (LABELS | {"bus.map.feedback.topic": "feedback.v1"}, "bus.map names feedback.v1, which is a topic of ours"),
        (
            EVENTS | {"bus.map.events.topic": str(list("abcdefghijklmnopqrstuvwxyz0123456")).replace("'", '"')},
            "at most 32",
        ),
        (LABELS | {"bus.map.feedback.on_second_label": "keep"}, "bus.map.feedback.on_second_label"),
        ({"bus.map.answers.fields.queue": "{lable}"}, "answers have no field lable. Did you mean label?"),
        ({"bus.map.answers.fields.label": "{label}"}, "is a field that answers have already"),
        ({"bus.map.answers.headers": '["ce_id"]'}, "an answer has its own headers"),
        ({"bus.map.answers.fields": '{"a": '}, "bus.map.answers.fields"),
        ({"bus.map.events.txt": "{body}"}, "Did you mean bus.map.events.text?"),
        ({"map.events.topic": "crm"}, "It is bus.map now"),
    ],
)
def test_a_wrong_map_is_refused_with_its_place(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ={}, flags=flags)
    assert told in str(caught.value)
    assert any(name in str(caught.value) for name in flags)


def test_a_map_is_read_from_every_layer() -> None:
    environ = {"LIFELONG_BUS__MAP__ANSWERS__FIELDS": '{"queue": "{label}"}'}
    loaded = load(file=None, environ=environ, flags=EVENTS | {"bus.map.answers.fields.sure": "{score}"})
    assert loaded.settings.bus.map.answers.fields == {"queue": "{label}", "sure": "{score}"}
    assert loaded.settings.bus.map.events.topic == ("crm",)
    assert loaded.origins["bus.map.answers.fields.queue"] == "LIFELONG_BUS__MAP__ANSWERS__FIELDS"


def test_a_map_has_one_topic_or_several() -> None:
    environ = {"LIFELONG_BUS__MAP__FEEDBACK__TOPIC": '["crm.mail", "crm.phone"]'}
    labels = {name: value for name, value in LABELS.items() if name != "bus.map.feedback.topic"}
    assert load(file=None, environ=environ, flags=labels).settings.bus.map.feedback.topic == ("crm.mail", "crm.phone")
