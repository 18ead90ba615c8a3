"""CloudEvents over HTTP, in each mode, and by the package of the project that specifies them."""

import base64
import json
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

from tests.serving.http.served_api import Response, ServedApi, read_error
from tests.serving.versions import label_of

TEXT = "where is my card"
BINARY = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "shop", "ce-type": "lifelong.event.v1"}
ATTRIBUTES = {name[3:]: value for name, value in BINARY.items()}
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def post(served: ServedApi, body: Any, headers: dict[str, str]) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return served.client.post("/v1/events", content=content, headers=headers)


def test_binary_mode_is_answered_in_binary_mode(served: ServedApi) -> None:
    headers = {**BINARY, "ce-time": "2026-01-02T03:04:05Z", "ce-partitionkey": "caf%C3%A9"}
    response = post(served, {"text": TEXT}, headers)
    assert response.status_code == 200
    assert (response.headers["ce-id"], response.headers["ce-source"]) == ("e1", "http/shop")
    assert (response.headers["ce-type"], response.headers["ce-specversion"]) == ("lifelong.answer.v1", "1.0")
    answer = response.json()
    assert (answer["event_id"], answer["key"], answer["label"]) == ("e1", "caf\u00e9", label_of(1, TEXT))
    assert answer["event_time_ms"] == 1_767_323_045_000
    assert answer["receipt"]
    assert answer["vector"] is None


def test_structured_mode_is_answered_in_structured_mode(served: ServedApi) -> None:
    event = {**ATTRIBUTES, "datacontenttype": "application/json", "data": {"text": TEXT, "key": "k"}, "extension": 5}
    response = post(served, event, {"content-type": f"{STRUCTURED}; charset=utf-8"})
    assert response.headers["content-type"] == STRUCTURED
    answer = response.json()
    assert (answer["id"], answer["source"], answer["type"]) == ("e1", "http/shop", "lifelong.answer.v1")
    assert (answer["data"]["label"], answer["data"]["key"]) == (label_of(1, TEXT), "k")


def test_data_in_base64_and_the_partition_key_are_read_in_structured_mode(served: ServedApi) -> None:
    data = base64.b64encode(json.dumps({"text": TEXT}).encode()).decode()
    response = post(served, {**ATTRIBUTES, "partitionkey": "k", "data_base64": data}, {"content-type": STRUCTURED})
    answer = response.json()["data"]
    assert (answer["label"], answer["key"]) == (label_of(1, TEXT), "k")


def test_in_a_batch_a_wrong_event_fails_alone(served: ServedApi) -> None:
    events = [{**ATTRIBUTES, "data": {"text": TEXT}}, {**ATTRIBUTES, "data": {}}, {"id": "e3"}]
    response = post(served, events, {"content-type": BATCH})
    assert response.headers["content-type"] == BATCH
    types = [event["type"] for event in response.json()]
    assert types == ["lifelong.answer.v1", "lifelong.problem.v1", "lifelong.problem.v1"]


def test_an_answer_that_was_kept_nowhere_says_so(served: ServedApi) -> None:
    for number in range(8):
        served.client.post("/v1/predict", json={"text": f"text {number}"})
    assert post(served, {"text": TEXT}, BINARY).headers["ce-unpublished"] == "true"


@pytest.mark.parametrize(
    ("body", "changes", "said"),
    [
        (b"no json", {}, "400 undecodable"),
        (b"", {}, "422 empty"),
        ({"text": " "}, {}, "422 wrong_schema"),
        ({"text": "a"}, {"ce-id": ""}, "422 wrong_schema"),
        ({"text": "a"}, {"ce-type": "com.example.order"}, "422 wrong_type"),
        ({"text": "a"}, {"ce-specversion": "2.0"}, "422 future_schema"),
        ({"text": "a"}, {"ce-source": "x" * 1_025}, "422 oversized"),
        ({"text": "a"}, {"ce-time": "soon"}, "400 undecodable"),
        ([], {"content-type": BATCH}, "422 wrong_schema"),
        ({}, {"content-type": BATCH}, "422 wrong_schema"),
        (b"{", {"content-type": STRUCTURED}, "400 not_json"),
        ({"id": "e1"}, {"content-type": STRUCTURED}, "422 wrong_schema"),
        ({**ATTRIBUTES, "data_base64": "?"}, {"content-type": STRUCTURED}, "400 undecodable"),
    ],
)
def test_other_requests_are_refused(served: ServedApi, body: Any, changes: dict[str, str], said: str) -> None:
    assert read_error(post(served, body, {**BINARY, **changes})) == said


@pytest.mark.parametrize("is_binary", [True, False])
def test_the_cloudevents_package_writes_the_event_and_reads_the_answer(served: ServedApi, is_binary: bool) -> None:
    event = CloudEvent(attributes={**ATTRIBUTES, "datacontenttype": "application/json"}, data={"text": TEXT})
    message = http.to_binary_event(event) if is_binary else http.to_structured_event(event)
    response = served.client.post("/v1/events", content=message.body, headers=message.headers)
    answer = http.from_http_event(http.HTTPMessage(headers=dict(response.headers), body=response.content))
    assert (answer.get_id(), answer.get_source(), answer.get_type()) == ("e1", "http/shop", "lifelong.answer.v1")
    assert answer.get_data()["label"] == label_of(1, TEXT)
