"""What the HTTP endpoints refuse, put off or give up on: bounds of bytes, places, time and rate."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from serving.http.app import make_app
from serving.queue import Priority
from tests.serving.http.served_api import Response, ServedApi, read_error
from tests.serving.versions import live_versions
from tests.waiting import eventually
from wire.rate_limits import TokenBuckets
from wire.records import MAX_EVENT_BYTES, text_chars

PREDICT: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/predict",
    "headers": [(b"host", b"127.0.0.1")],
    "query_string": b"",
    "client": None,
}
"""The ASGI scope of a request whose body the test sends by itself."""


def test_a_body_that_says_it_is_too_large_is_not_read(served: ServedApi) -> None:
    assert read_error(served.client.post("/v1/predict", content=b"x" * (MAX_EVENT_BYTES + 1))) == "413 too_large"


def test_a_body_that_does_not_say_so_is_given_up_on_while_it_is_read(served: ServedApi) -> None:
    num_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_read
        num_read += 1
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def call() -> None:
        await make_app(served.api)(PREDICT, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == 413
    assert num_read == MAX_EVENT_BYTES // 65_536 + 1


def test_a_full_queue_is_a_503_that_says_when_to_come_back(idle: ServedApi) -> None:
    idle.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "b"}]})
    response = idle.client.post("/v1/predict", json={"text": "c"})
    assert read_error(response) == "503 queue_full"
    assert response.headers["retry-after"] == "1"


def test_what_the_queue_had_no_room_for_fails_alone() -> None:
    served = ServedApi(max_queue_items=2)
    served.pipeline.engine.activate(live_versions([1]))
    responses: list[Response] = []
    events = [{"text": text} for text in "abc"]
    asker = threading.Thread(
        target=lambda: responses.append(served.client.post("/v1/predict", json={"events": events}))
    )
    asker.start()
    eventually(lambda: len(served.pipeline.queue) == 2)
    served.pipeline.engine.start()
    asker.join()
    served.pipeline.queue.close()
    first, second, third = responses[0].json()["answers"]
    assert first["label"] and second["label"]
    assert third["error"]["code"] == "queue_full"


def test_a_model_that_does_not_answer_in_time_is_a_503(idle: ServedApi) -> None:
    assert read_error(idle.client.post("/v1/predict", json={"text": "a"})) == "503 timeout"


def test_an_answer_that_cannot_be_kept_says_so(served: ServedApi) -> None:
    """B15: its label would find no answer, and the client could not know that."""
    events = [{"text": f"text {number}"} for number in range(10)]
    answers = served.client.post("/v1/predict", json={"events": events}).json()["answers"]
    assert [answer["can_be_labelled"] for answer in answers] == [True] * 8 + [False] * 2
    assert served.pipeline.outbox.is_full
    assert served.pipeline.counts.snapshot()["answers_not_published"] == 2


def test_what_nobody_waits_for_is_not_computed(idle: ServedApi) -> None:
    """F36: the answer was computed and published, although no client had received it."""
    idle.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "b"}]})  # loses its patience
    idle.pipeline.engine.start()
    idle.drain()
    assert idle.pipeline.counts.snapshot() == {"abandoned": 2}


def test_a_client_that_hangs_up_is_not_waited_for(idle: ServedApi) -> None:
    """F36: its request kept its place in the queue, and used the model."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"text": "a"}', "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None: ...

    patient = replace(idle.api, bridge=replace(idle.api.bridge, timeout_s=60.0))
    started_s = time.monotonic()
    asyncio.run(asyncio.wait_for(make_app(patient)(PREDICT, receive, send), 30))
    assert time.monotonic() - started_s < 20
    idle.pipeline.engine.start()
    idle.drain()
    assert idle.pipeline.counts.snapshot() == {"abandoned": 1}


def test_a_client_over_its_rate_is_a_429_whatever_it_calls_itself() -> None:
    """B13: the limit was keyed by a header that the client chose."""
    with ServedApi(limit=TokenBuckets(rate=1, burst=2, max_keys=9)).running() as served:
        assert [ask_as(served, name).status_code for name in ("one", "two")] == [200, 200]
        refused = ask_as(served, "three")
        assert read_error(refused) == "429 rate_limited"
        assert refused.headers["retry-after"] == "1"


def ask_as(served: ServedApi, who: str) -> Response:
    return served.client.post("/v1/predict", json={"text": "a"}, headers={"x-api-key": who})


def test_what_is_too_late_for_its_client_is_not_computed() -> None:
    patient = ServedApi(max_queue_items=2, timeout_s=60.0)
    patient.pipeline.engine.activate(live_versions([1]))
    response = patient.client.post("/v1/predict", json={"text": "a"}, headers={"x-request-timeout-ms": "30"})
    assert read_error(response) == "504 deadline_exceeded"
    patient.pipeline.engine.start()
    patient.drain()
    assert patient.pipeline.counts.snapshot() == {"abandoned": 1}


def test_a_client_may_not_wait_longer_than_the_service_does(idle: ServedApi) -> None:
    response = idle.client.post("/v1/predict", json={"text": "a"}, headers={"x-request-timeout-ms": "3600000"})
    assert read_error(response) == "503 timeout"


@pytest.mark.parametrize(
    ("name", "value"), [("x-request-timeout-ms", "soon"), ("x-request-timeout-ms", "0"), ("x-priority", "utmost")]
)
def test_a_header_that_means_nothing_is_refused_by_name(served: ServedApi, name: str, value: str) -> None:
    response = served.client.post("/v1/predict", json={"text": "a"}, headers={name: value})
    assert read_error(response) == "400 wrong_header"
    assert name in response.json()["error"]["message"]


def test_the_priority_of_a_request_is_that_of_its_items(idle: ServedApi) -> None:
    for name in ("low", "high"):
        idle.client.post("/v1/predict", json={"text": name}, headers={"x-priority": name})
    assert len(idle.pipeline.queue) == 2
    lanes = idle.pipeline.queue._lanes
    assert [len(lanes[priority]) for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW)] == [1, 0, 1]


def test_bodies_beyond_their_room_are_a_503_until_others_are_answered(served: ServedApi) -> None:
    """B12: waiting requests are bounded in bytes as well."""
    assert served.bodies.reserve(2 * MAX_EVENT_BYTES - 10)
    refused = served.client.post("/v1/predict", json={"text": "hello"})
    assert read_error(refused) == "503 too_many_bytes"
    assert refused.headers["retry-after"] == "1"
    served.bodies.release(2 * MAX_EVENT_BYTES - 10)
    assert served.client.post("/v1/predict", json={"text": "hello"}).status_code == 200


@pytest.mark.parametrize("body", [b'{"text": "a"}', b"no json", b"x" * (MAX_EVENT_BYTES + 1), b'{"text": 5}'])
def test_a_request_gives_its_room_back_however_it_ends(served: ServedApi, body: bytes) -> None:
    served.client.post("/v1/predict", content=iter([body[:7], body[7:]]))
    assert served.bodies.num_bytes == 0


def test_no_more_of_a_text_waits_than_is_used(idle: ServedApi) -> None:
    idle.client.post("/v1/predict", json={"text": "\U0001f600" * 200_000})
    ((item, _),) = idle.pipeline.queue._lanes[Priority.NORMAL]
    assert len(item.event.text) == text_chars(64)


def test_a_long_text_is_answered_by_its_beginning(served: ServedApi) -> None:
    text = "word " * 50_000
    beginning = served.client.post("/v1/predict", json={"text": text[: text_chars(64)]})
    whole = served.client.post("/v1/predict", json={"text": text})
    assert whole.json()["answers"][0]["scores"] == beginning.json()["answers"][0]["scores"]
