"""Tests the actions of the page on topics: labels, releases from quarantine, and dead letters sent again."""

import pytest

from services.page.operations import LAST_SHOWN
from tests.brokers import take
from tests.services.page.conftest import ServedPage
from wire.config import BusConfig
from wire.dead_letters import refuse_event
from wire.message import Place
from wire.records import Event, Feedback, Quarantined, topic_name

pytestmark = pytest.mark.live


def test_a_label_reaches_the_learner_as_it_was_given(served_page: ServedPage) -> None:
    label = {"event_id": "e", "label": "refund", "source": "http", "key": "k", "receipt": "r"}
    assert served_page.client.post("/api/label", json=label).status_code == 200
    (received,) = take(served_page.bus.follow([Feedback], {}).poll, 1)
    record = received.record
    assert (record.event_id, record.label, record.source) == ("e", "refund", "page")
    assert (record.event_source, record.key, record.receipt) == ("http", "k", "r")
    assert record.time_ms > 0 and not record.approval
    for wrong in (" ", "x" * 2_000):
        assert served_page.client.post("/api/label", json=label | {"label": wrong}).status_code == 400


def test_a_label_in_quarantine_is_shown_and_released(served_page: ServedPage) -> None:
    held = [Quarantined(reason="flip", event_id=name, label="refund", time_ms=7, text="x" * 9_000) for name in "ab"]
    served_page.bus.publisher().send_all(held, 10)
    assert served_page.client.get("/api/quarantine").status_code == 401
    shown = served_page.browse("quarantine")
    assert [label["event_id"] for label in shown] == ["b", "a"]
    assert len(shown[0]["text"]) == 2_000
    assert served_page.admin("release", {}).status_code == 409
    assert served_page.admin("release", {"ids": ["b"]}).status_code == 409  # N4: an event is no label
    assert (
        served_page.admin("release", {"ids": [shown[0]["id"]]}).json()["result"] == "1 labels sent to the learner again"
    )
    (received,) = take(served_page.bus.follow([Feedback], {}).poll, 1)
    assert received.record.event_id == "b" and received.record.approval


def test_what_anybody_may_have_sent_is_not_released_by_a_button(served_page: ServedPage) -> None:
    """N4: such a label is released only if its reason is named, which only the command line allows."""
    served_page.bus.publisher().send_all([Quarantined(reason="missing", event_id="e", label="refund", time_ms=7)], 10)
    (shown,) = served_page.browse("quarantine")
    refused = served_page.admin("release", {"ids": [shown["id"]]})
    assert (refused.status_code, refused.json()["error"].startswith("missing: ")) == (409, True)


def test_a_dead_letter_is_shown_and_sent_again(served_page: ServedPage, bus_config: BusConfig) -> None:
    place = Place(topic=topic_name(bus_config.prefix, Event), partition=0, offset=7)
    letter = refuse_event("unanswerable", "x", Event(id="e", text="hi", time_ms=5), place)
    served_page.bus.publisher().send_all([letter], 10)
    (shown,) = served_page.browse("deadletters")
    assert shown["reason"] == "unanswerable"
    assert served_page.admin("replay", {"ids": [shown["id"]]}).json()["result"] == "1 sent again"
    (received,) = take(served_page.bus.follow([Event], {}).poll, 1)
    assert received.record.text == "hi"
    refused = served_page.admin("replay", {"ids": ["nowhere"]})
    assert (refused.status_code, "nowhere: there is no such dead letter" in refused.json()["error"]) == (409, True)
    assert served_page.admin("replay", {}).status_code == 409


def test_the_payload_of_a_picture_is_shown_in_part(served_page: ServedPage, bus_config: BusConfig) -> None:
    place = Place(topic=topic_name(bus_config.prefix, Event), partition=0, offset=7)
    event = Event(id="e", parts=({"type": "image", "data": 5_000 * "A"},))
    served_page.bus.publisher().send_all([refuse_event("unreadable", "x", event, place)], 10)
    (shown,) = served_page.browse("deadletters")
    assert len(shown["payload"]) == LAST_SHOWN


def test_labels_are_changed_with_the_token_and_it_is_recorded(served_page: ServedPage) -> None:
    served_page.begin(1)  # its version knows the class "refund", and others
    label, *_ = served_page.store.versions.manifest(1).labels
    call = {"labels": [label], "to": ["money back"]}
    assert served_page.admin("labels-rename", call, token="").status_code == 401
    done = served_page.admin("labels-rename", call)
    assert done.json()["result"] == "command 1 about labels is requested", done.text
    (command,) = served_page.store.labels.requested()
    assert (command.action, command.labels, command.to, command.source) == ("rename", (label,), ("money back",), "page")
    wrong = served_page.admin("labels-rename", call)
    assert (wrong.status_code, "is called 'money back' now" in wrong.json()["error"]) == (409, True)
    assert served_page.admin("labels-retire", {"labels": ["nothing"], "to": ["x"]}).status_code == 409
    actions = [(each["action"], each["outcome"]) for each in served_page.browse("actions")]
    assert ("labels-rename", "done") in actions and ("labels-rename", "failed") in actions
