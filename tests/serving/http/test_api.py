"""The HTTP endpoints, through the real application over a real engine."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.serving.http.served_api import ServedApi, read_error
from tests.serving.pipelines import PREDICT
from tests.serving.versions import label_of, live_versions
from tests.waiting import eventually
from wire.records import Answer, Event


def test_one_event_is_answered(served: ServedApi) -> None:
    response = served.client.post("/v1/predict", json={"text": "where is my card", "id": "e1", "key": "k"})
    (answer,) = response.json()["answers"]
    assert response.status_code == 200
    assert answer["event_id"] == "e1"
    assert answer["label"] == label_of(1, "where is my card")
    assert (answer["weights_version"], answer["arm"]) == (1, "stable")


def test_many_events_are_answered_in_order(served: ServedApi) -> None:
    texts = [f"text number {index}" for index in range(10)]
    response = served.client.post("/v1/predict", json={"events": [{"text": text} for text in texts]})
    assert [answer["label"] for answer in response.json()["answers"]] == [label_of(1, text) for text in texts]


def test_a_wrong_event_in_a_list_fails_alone(served: ServedApi) -> None:
    response = served.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": ""}, {"text": "b"}]})
    first, second, third = response.json()["answers"]
    assert response.status_code == 200
    assert second["error"]["code"] == "wrong_schema"
    assert first["label"] and third["label"]


def test_a_poison_event_fails_alone(served: ServedApi) -> None:
    def encode(texts: Any) -> list[list[int]]:
        return [[1 << 20] if text == "poison" else [101, 102] for text in texts]

    served.encode = encode
    response = served.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "poison"}]})
    first, second = response.json()["answers"]
    assert first["label"]
    assert second["error"]["code"] == "model_failed"
    assert read_error(served.client.post("/v1/predict", json={"text": "poison"})) == "422 model_failed"


@pytest.mark.parametrize("body", [b"", b"no json", b'{"text": "\xff"}'])
def test_bytes_that_are_no_json_are_a_400(served: ServedApi, body: bytes) -> None:
    assert read_error(served.client.post("/v1/predict", content=body)) == "400 not_json"


def test_another_shape_is_a_422_that_names_the_field(served: ServedApi) -> None:
    response = served.client.post("/v1/predict", json={"text": 5})
    assert read_error(response) == "422 wrong_schema"
    assert "text" in response.json()["error"]["message"]


def test_a_fault_of_the_machine_is_a_503() -> None:
    """B25 no. 9: a MemoryError was answered as a fault of the event."""

    def broken(*_: object) -> list[Answer]:
        raise MemoryError

    with ServedApi(predict=broken).running() as served:
        response = served.client.post("/v1/predict", json={"text": "a"})
    assert read_error(response) == "503 model_unavailable"
    assert response.headers["retry-after"] == "1"


def test_without_weights_it_is_not_ready() -> None:
    served = ServedApi()
    assert read_error(served.client.post("/v1/predict", json={"text": "a"})) == "503 no_weights"
    assert read_error(served.client.get("/v1/health/ready")) == "503 no_weights"
    assert served.client.get("/v1/health/live").json() == {"live": True}


def test_a_replica_that_is_stopped_takes_nothing(served: ServedApi) -> None:
    served.pipeline.queue.close()
    assert read_error(served.client.post("/v1/predict", json={"text": "a"})) == "503 stopping"
    assert read_error(served.client.get("/v1/health/ready")) == "503 stopping"


def test_a_sick_replica_is_not_live(served: ServedApi) -> None:
    served.health.append("the engine has ended")
    assert read_error(served.client.get("/v1/health/live")) == "503 unhealthy"


def test_the_clients_own_request_id_comes_back(served: ServedApi) -> None:
    response = served.client.get("/v1/status", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("unfit", ["", "a b", "x" * 129, "<script>"])
def test_an_unfit_request_id_is_replaced(served: ServedApi, unfit: str) -> None:
    response = served.client.get("/v1/status", headers={"x-request-id": unfit})
    assert response.headers["x-request-id"].startswith("new")


def test_unknown_paths_and_methods_are_errors_of_the_same_shape(served: ServedApi) -> None:
    assert read_error(served.client.get("/v1/nothing")) == "404 not_found"
    refused = served.client.get("/v1/predict")
    assert read_error(refused) == "405 method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_a_failure_of_ours_tells_nothing_of_the_inside(served: ServedApi) -> None:
    def encode(texts: Any) -> list[list[int]]:
        raise KeyError("a secret")

    served.encode = encode
    response = served.client.post("/v1/predict", json={"text": "a"})
    assert read_error(response) == "500 internal"
    assert "secret" not in response.text


def test_the_status_shows_the_counts(served: ServedApi) -> None:
    served.client.post("/v1/predict", json={"text": "a"})
    served.client.post("/v1/predict", content=b"")
    counts = served.client.get("/v1/status").json()["counts"]
    assert (counts["answers"], counts["http_not_json"]) == (1, 1)


def test_requests_at_the_same_time_share_a_batch() -> None:
    served = ServedApi()
    served.pipeline.engine.activate(live_versions([1]))

    def ask() -> None:
        assert served.client.post("/v1/predict", json={"text": "hello"}).status_code == 200

    askers = [threading.Thread(target=ask) for _ in range(16)]
    for asker in askers:
        asker.start()
    eventually(lambda: len(served.pipeline.queue) == 16)
    served.pipeline.engine.start()
    for asker in askers:
        asker.join()
    served.drain()
    counts = served.pipeline.counts.snapshot()
    assert (counts["answers"], counts["batches"]) == (16, 1)


def test_the_trace_of_a_request_is_that_of_its_answers() -> None:
    asked: list[Event] = []

    def predict(events: Sequence[Event], *others: Any) -> list[Answer]:
        asked.extend(events)
        return PREDICT(events, *others)

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with ServedApi(predict=predict).running() as served:
        for headers in ({"traceparent": trace}, {}):
            served.client.post("/v1/predict", json={"text": "hello"}, headers=headers)
    assert [event.headers for event in asked] == [(("traceparent", trace),), ()]
