"""The HTTP endpoints, through the real application over a real engine."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient

from serving.batcher import BatchQueue
from serving.config import PrecisionConfig
from serving.counts import Counts
from serving.engine import Engine
from serving.errors import Unhealthy
from serving.http.api import Api, make_app
from serving.http.bodies import Bodies
from serving.http.bridge import RequestBridge
from serving.http.clients import Clients
from serving.http.rate_limit import RateLimit
from serving.item import Item
from serving.kafka.outbox import Outbox
from serving.kafka.sending import OutboxBounds
from serving.pipeline import Pipeline, encoding
from serving.status import ReplicaStatus
from tests.serving.versions import RECEIPTS, label_of, live_of, tokenizer
from tests.waiting import eventually
from wire.errors import BusUnavailable
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_CHARS

API_KEY = "a key that is configured"

Response: TypeAlias = Any  # the test client has an httpx of its own


def no_broker() -> Any:
    raise BusUnavailable("no broker in this test")


@dataclass
class Served:
    """An application over an engine. Answers to publish stay in the outbox, which is not started."""

    limit: RateLimit | None = None
    max_queue_items: int = 64
    timeout_s: float = 10.0
    health: list[str] = field(default_factory=list)
    bodies: Bodies = field(default_factory=lambda: Bodies(max_bytes=2 * MAX_EVENT_BYTES))

    def __post_init__(self) -> None:
        self.counts = Counts()
        self.queue: BatchQueue[Item] = BatchQueue(
            max_items=self.max_queue_items, max_bytes=1 << 20, max_batch_items=16, max_batch_tokens=512, max_wait_ms=0
        )
        self.engine = Engine(
            self.queue, self.counts, top_scores=2, precision=PrecisionConfig(), receipts=RECEIPTS, now_ms=lambda: 9
        )
        bounds = OutboxBounds(max_items=8, max_bytes=1 << 20, first_pause_s=1)
        self.outbox = Outbox(no_broker, self.counts, bounds, name="r1")
        self.encode = encoding(tokenizer(), lambda: 64)
        pipeline = Pipeline(
            encode=lambda texts: self.encode(texts),
            queue=self.queue,
            engine=self.engine,
            outbox=self.outbox,
            counts=self.counts,
        )
        ids = count()
        self.api = Api(
            bridge=RequestBridge(pipeline=pipeline, timeout_s=self.timeout_s),
            bodies=self.bodies,
            clients=Clients([API_KEY]),
            limit=self.limit,
            max_events=10,
            check=self.check,
            status=self.status,
            now_ms=lambda: 5,
            new_id=lambda: f"new{next(ids)}",
        )
        self.client = TestClient(make_app(self.api), raise_server_exceptions=False)

    def check(self) -> None:
        if self.health:
            raise Unhealthy(self.health[0])

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(
            replica="r1",
            swap="waiting",
            queue=self.queue.state.value,
            revision=0,
            stand_in=0,
            arms=(),
            num_labels={},
            queue_items=len(self.queue),
            open_events=0,
            swaps=0,
            swap_stalls_ms=(),
            swap_pauses_ms=(),
            refused={},
            counts=self.counts.snapshot(),
        )


def started(served: Served) -> Iterator[Served]:
    served.engine.live = live_of([1])
    served.engine.start()
    yield served
    served.queue.close()
    served.engine.join(20)


@pytest.fixture
def served() -> Iterator[Served]:
    yield from started(Served())


@pytest.fixture
def idle() -> Served:
    """An engine that has weights and never answers."""
    served = Served(max_queue_items=2, timeout_s=0.05)
    served.engine.live = live_of([1])
    return served


def error_of(response: Response) -> str:
    error = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return f"{response.status_code} {error['code']}"


def test_one_event_is_answered(served: Served) -> None:
    response = served.client.post("/v1/predict", json={"text": "where is my card", "id": "e1", "key": "k"})
    (answer,) = response.json()["answers"]
    assert response.status_code == 200
    assert answer["event_id"] == "e1"
    assert answer["label"] == label_of(1, "where is my card")
    assert (answer["weights_version"], answer["arm"]) == (1, "stable")


def test_many_events_are_answered_in_order(served: Served) -> None:
    texts = [f"text number {index}" for index in range(10)]
    response = served.client.post("/v1/predict", json={"events": [{"text": text} for text in texts]})
    assert [answer["label"] for answer in response.json()["answers"]] == [label_of(1, text) for text in texts]


def test_a_wrong_event_in_a_list_fails_alone(served: Served) -> None:
    response = served.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": ""}, {"text": "b"}]})
    first, second, third = response.json()["answers"]
    assert response.status_code == 200
    assert second["error"]["code"] == "wrong_schema"
    assert first["label"] and third["label"]


def test_a_poison_event_fails_alone(served: Served) -> None:
    def encode(texts: Any) -> list[list[int]]:
        return [[1 << 20] if text == "poison" else [101, 102] for text in texts]

    served.encode = encode
    response = served.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "poison"}]})
    first, second = response.json()["answers"]
    assert first["label"]
    assert second["error"]["code"] == "model_failed"
    assert error_of(served.client.post("/v1/predict", json={"text": "poison"})) == "422 model_failed"


def test_answers_are_published_while_there_is_room(served: Served) -> None:
    served.client.post("/v1/predict", json={"events": [{"text": "a"}] * 10})
    assert served.outbox.is_full
    assert served.counts.snapshot()["answers_not_published"] == 2


@pytest.mark.parametrize("body", [b"", b"no json", b'{"text": "\xff"}'])
def test_bytes_that_are_no_json_are_a_400(served: Served, body: bytes) -> None:
    assert error_of(served.client.post("/v1/predict", content=body)) == "400 not_json"


def test_another_shape_is_a_422_that_names_the_field(served: Served) -> None:
    response = served.client.post("/v1/predict", json={"text": 5})
    assert error_of(response) == "422 wrong_schema"
    assert "text" in response.json()["error"]["message"]


def test_a_body_that_says_it_is_too_large_is_not_read(served: Served) -> None:
    assert error_of(served.client.post("/v1/predict", content=b"x" * (MAX_EVENT_BYTES + 1))) == "413 too_large"


def test_a_body_that_does_not_say_so_is_given_up_on_while_it_is_read(served: Served) -> None:
    num_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_read
        num_read += 1
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "headers": [],
        "query_string": b"",
        "client": None,
    }

    async def call() -> None:
        await make_app(served.api)(scope, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == 413
    assert num_read == MAX_EVENT_BYTES // 65_536 + 1


def test_a_full_queue_is_a_503_that_says_when_to_come_back(idle: Served) -> None:
    idle.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "b"}]})
    response = idle.client.post("/v1/predict", json={"text": "c"})
    assert error_of(response) == "503 queue_full"
    assert response.headers["retry-after"] == "1"


def test_what_the_queue_had_no_room_for_fails_alone() -> None:
    served = Served(max_queue_items=2)
    served.engine.live = live_of([1])
    responses: list[Response] = []
    events = [{"text": text} for text in "abc"]
    asker = threading.Thread(
        target=lambda: responses.append(served.client.post("/v1/predict", json={"events": events}))
    )
    asker.start()
    eventually(lambda: len(served.queue) == 2)
    served.engine.start()
    asker.join()
    served.queue.close()
    first, second, third = responses[0].json()["answers"]
    assert first["label"] and second["label"]
    assert third["error"]["code"] == "queue_full"


def test_a_model_that_does_not_answer_in_time_is_a_503(idle: Served) -> None:
    assert error_of(idle.client.post("/v1/predict", json={"text": "a"})) == "503 timeout"


def test_an_answer_that_cannot_be_kept_says_so(served: Served) -> None:
    """B15: its label would find no answer, and the client could not know that."""
    events = [{"text": f"text {number}"} for number in range(10)]
    answers = served.client.post("/v1/predict", json={"events": events}).json()["answers"]
    assert [answer["can_be_labelled"] for answer in answers] == [True] * 8 + [False] * 2
    assert served.counts.snapshot()["answers_not_published"] == 2


def test_a_fault_of_the_machine_is_a_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """B25 no. 9: a MemoryError was answered as a fault of the event."""

    def broken(*args: Any, **options: Any) -> list[Any]:
        raise MemoryError

    monkeypatch.setattr("serving.engine.predict_many", broken)
    response = served.client.post("/v1/predict", json={"text": "a"})
    assert error_of(response) == "503 model_unavailable"
    assert response.headers["retry-after"] == "1"


def test_what_nobody_waits_for_is_not_computed(idle: Served) -> None:
    """F36: the answer was computed and published, although no client had received it."""
    idle.client.post("/v1/predict", json={"events": [{"text": "a"}, {"text": "b"}]})  # loses its patience
    idle.engine.start()
    idle.queue.close()
    idle.engine.join(20)
    assert idle.counts.snapshot() == {"abandoned": 2}


def test_a_client_that_hangs_up_is_not_waited_for(idle: Served) -> None:
    """F36: its request kept its place in the queue, and used the model."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"text": "a"}', "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None: ...

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "headers": [],
        "query_string": b"",
        "client": None,
    }
    patient = replace(idle.api, bridge=replace(idle.api.bridge, timeout_s=60.0))
    started_s = time.monotonic()
    asyncio.run(asyncio.wait_for(make_app(patient)(scope, receive, send), 30))
    assert time.monotonic() - started_s < 20
    idle.engine.start()
    idle.queue.close()
    idle.engine.join(20)
    assert idle.counts.snapshot() == {"abandoned": 1}


def test_without_weights_it_is_not_ready() -> None:
    served = Served()
    assert error_of(served.client.post("/v1/predict", json={"text": "a"})) == "503 no_weights"
    assert error_of(served.client.get("/v1/health/ready")) == "503 no_weights"
    assert served.client.get("/v1/health/live").json() == {"live": True}


def test_a_replica_that_is_stopped_takes_nothing(served: Served) -> None:
    served.queue.close()
    assert error_of(served.client.post("/v1/predict", json={"text": "a"})) == "503 stopping"
    assert error_of(served.client.get("/v1/health/ready")) == "503 stopping"


def test_a_sick_replica_is_not_live(served: Served) -> None:
    served.health.append("the engine has ended")
    assert error_of(served.client.get("/v1/health/live")) == "503 unhealthy"


def test_a_client_over_its_rate_is_a_429_whatever_it_calls_itself() -> None:
    """B13: the limit was keyed by a header that the client chose. Only a configured key is a client of its own."""
    for served in started(Served(limit=RateLimit(per_s=1, burst=2, max_clients=9))):
        assert [ask_as(served, name).status_code for name in ("one", "two")] == [200, 200]
        refused = ask_as(served, "three")
        assert error_of(refused) == "429 rate_limited"
        assert refused.headers["retry-after"] == "1"
        assert [ask_as(served, API_KEY).status_code for _ in range(3)] == [200, 200, 429]


def ask_as(served: Served, who: str) -> Response:
    return served.client.post("/v1/predict", json={"text": "a"}, headers={"x-api-key": who})


def test_bodies_beyond_their_room_are_a_503_until_others_are_answered(served: Served) -> None:
    """B12: waiting requests are bounded in bytes as well."""
    assert served.bodies.reserve(2 * MAX_EVENT_BYTES - 10)
    refused = served.client.post("/v1/predict", json={"text": "hello"})
    assert error_of(refused) == "503 too_many_bytes"
    assert refused.headers["retry-after"] == "1"
    served.bodies.release(2 * MAX_EVENT_BYTES - 10)
    assert served.client.post("/v1/predict", json={"text": "hello"}).status_code == 200


@pytest.mark.parametrize("body", [b'{"text": "a"}', b"no json", b"x" * (MAX_EVENT_BYTES + 1), b'{"text": 5}'])
def test_a_request_gives_its_room_back_however_it_ends(served: Served, body: bytes) -> None:
    served.client.post("/v1/predict", content=iter([body[:7], body[7:]]))
    assert served.bodies.num_bytes == 0


def test_no_more_of_a_text_waits_than_is_used(idle: Served) -> None:
    idle.client.post("/v1/predict", json={"text": "\U0001f600" * 200_000})
    batch = idle.queue.take()
    assert batch is not None
    assert len(batch.items[0].event.text) == MAX_TEXT_CHARS


def test_the_clients_own_request_id_comes_back(served: Served) -> None:
    response = served.client.get("/v1/status", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("unfit", ["", "a b", "x" * 129, "<script>"])
def test_an_unfit_request_id_is_replaced(served: Served, unfit: str) -> None:
    response = served.client.get("/v1/status", headers={"x-request-id": unfit})
    assert response.headers["x-request-id"].startswith("new")


def test_unknown_paths_and_methods_are_errors_of_the_same_shape(served: Served) -> None:
    assert error_of(served.client.get("/v1/nothing")) == "404 not_found"
    refused = served.client.get("/v1/predict")
    assert error_of(refused) == "405 method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_a_failure_of_ours_tells_nothing_of_the_inside(served: Served) -> None:
    def encode(texts: Any) -> list[list[int]]:
        raise KeyError("a secret")

    served.encode = encode
    response = served.client.post("/v1/predict", json={"text": "a"})
    assert error_of(response) == "500 internal"
    assert "secret" not in response.text


def test_the_status_shows_the_counts(served: Served) -> None:
    served.client.post("/v1/predict", json={"text": "a"})
    served.client.post("/v1/predict", content=b"")
    counts = served.client.get("/v1/status").json()["counts"]
    assert (counts["answers"], counts["http_not_json"]) == (1, 1)


def test_requests_at_the_same_time_share_a_batch(served: Served) -> None:
    def ask() -> None:
        assert served.client.post("/v1/predict", json={"text": "hello"}).status_code == 200

    askers = [threading.Thread(target=ask) for _ in range(16)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert served.counts.snapshot()["answers"] == 16


def test_a_long_text_is_answered_by_its_beginning(served: Served) -> None:
    text = "word " * 50_000
    beginning = served.client.post("/v1/predict", json={"text": text[:MAX_TEXT_CHARS]})
    whole = served.client.post("/v1/predict", json={"text": text})
    assert whole.json()["answers"][0]["scores"] == beginning.json()["answers"][0]["scores"]
