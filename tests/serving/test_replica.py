"""A whole replica without Ray: Kafka, Redis and HTTP together."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.local.redis import start_redis
from serving.config import PrecisionConfig
from serving.http.app import make_app
from serving.http.listener import Listener
from serving.replica import Replica
from tests.brokers import take
from tests.serving.replicas import SERVING, is_ready
from tests.serving.versions import TinyPublisher, head_logits, label_of, make_model
from tests.stores import KEYS, SIGNING_KEY
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.receipts import Receipts
from wire.records import Answer, Event, Feedback, PrecisionEvaluation, Probe
from wire.store import Store

pytestmark = pytest.mark.live


def measured(*, int4: float) -> tuple[PrecisionEvaluation, ...]:
    return (PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=int4))


def answers(bus: Bus, num: int) -> list[Answer]:
    with closing(bus.follow([Answer], {})) as follower:
        return [each.record for each in take(follower.poll, num)]


def test_kafka_and_http_are_answered_alike_and_both_are_published(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher, bus: Bus, store: Store
) -> None:
    learner.publish(1)
    learner.plan(1)
    url = listen(start())
    eventually(lambda: is_ready(url))
    asked = httpx2.post(f"{url}/predict", json={"text": "where is my card", "id": "by-http"}).json()
    with closing(bus.publisher()) as publisher:
        publisher.send(Event(id="by-kafka", text="where is my card"))
    found = {answer.event_id: answer for answer in answers(bus, 2)}
    assert set(found) == {"by-http", "by-kafka"}
    assert {answer.label for answer in found.values()} == {label_of(1, "where is my card")}
    assert asked["answers"][0]["label"] == label_of(1, "where is my card")
    eventually(lambda: [report.versions for report in store.reports.replicas()] == [(1,)])
    status = httpx2.get(f"{url}/status").json()
    assert (status["counts"]["answers"], status["counts"]["answers_int8"]) == (2, 2)
    assert status["arms"] == [{"name": "stable", "version": 1, "share": 1.0}]


def test_a_label_by_http_lies_on_its_topic_and_a_named_version_answers_unseen(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher, bus: Bus
) -> None:
    learner.publish(1)
    learner.plan(1)
    url = listen(start())
    eventually(lambda: is_ready(url))
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my card"]}
    named = f"{url.removesuffix('/v1')}/v2/models/lifelong/versions/1/infer"
    assert httpx2.post(named, json={"inputs": [text]}).status_code == 200
    (answer,) = httpx2.post(f"{url}/predict", json={"text": "where is my card", "id": "e1"}).json()["answers"]
    label = {"event_id": "e1", "label": "lost card", "receipt": answer["receipt"], "event_source": answer["source"]}
    assert httpx2.post(f"{url}/feedback", json=label).json()["labels"][0]["source"] == "127.0.0.1"
    with closing(bus.follow([Feedback], {})) as follower:
        (received,) = take(follower.poll, 1)
    assert isinstance(received.record, Feedback)
    assert Receipts(SIGNING_KEY).refusal(received.record, is_required=True, max_age_ms=600_000) == ""
    assert [each.event_id for each in answers(bus, 1)] == ["e1"]


def test_texts_are_cut_where_the_stable_version_was_trained_to_end(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher
) -> None:
    learner.publish(1, max_tokens=5, probes=(Probe(text="hi", logits=head_logits(make_model(1), "hi")),))
    learner.plan(1)
    url = listen(start())
    eventually(lambda: is_ready(url))

    def scores(text: str) -> Any:
        return httpx2.post(f"{url}/predict", json={"text": text}).json()["answers"][0]["scores"]

    assert scores("where is my card") == scores("where is my parcel, please")
    assert scores("where is my card") != scores("where is a card")


def test_a_new_version_is_taken_while_it_answers(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher
) -> None:
    learner.publish(1)
    learner.plan(1)
    url = listen(start())
    eventually(lambda: is_ready(url))
    learner.publish(2)
    learner.plan(2, previous=1)

    def version() -> int:
        answer = httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["answers"][0]
        assert answer["label"] == label_of(answer["weights_version"], "hello")
        return int(answer["weights_version"])

    eventually(lambda: version() == 2)
    eventually(lambda: httpx2.get(f"{url}/status").json()["swaps"] == 1)


def test_a_precision_that_is_asked_for_answers_where_it_is_accurate_enough(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher
) -> None:
    learner.publish(1, precisions=measured(int4=0.9))
    learner.plan(1)
    replica = start(serving=replace(SERVING, precision=PrecisionConfig(mode="int4")))
    url = listen(replica)

    def precision() -> str:
        return str(httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["answers"][0]["precision"])

    eventually(lambda: is_ready(url))
    assert precision() == "int4"
    learner.publish(2, precisions=measured(int4=0.8))
    learner.plan(2)
    eventually(lambda: precision() == "int8")
    eventually(lambda: httpx2.get(f"{url}/status").json()["counts"]["answers_int4"] > 0)


def test_behind_ray_s_proxy_it_may_be_asked_by_the_name_of_its_service(start: Callable[..., Replica]) -> None:
    """There http_host, a loopback address by default, is not what the service listens on."""
    replica = start()
    statuses: list[int] = []
    for listens in (True, False):
        app = make_app(replica.api(listens=listens))
        with closing(Listener(app, host="127.0.0.1", port=0, drain_timeout_s=1)) as listener:
            url = f"http://127.0.0.1:{listener.port}/v1/predict"
            headers = {"host": "replicas-serve-svc:8000"}
            statuses.append(httpx2.post(url, json={"text": "hello"}, headers=headers).status_code)
    assert statuses == [421, 503], "there are no weights yet"


def test_without_a_broker_http_is_answered(
    start: Callable[..., Replica], listen: Callable[[Replica], str], learner: TinyPublisher, bus_config: BusConfig
) -> None:
    learner.publish(1)
    learner.plan(1)
    away = replace(bus_config, bootstrap_servers="127.0.0.1:1").with_client(request_timeout_ms=200)
    url = listen(replica := start(bus=away, serving=replace(SERVING, drain_timeout_s=0.5)))
    eventually(lambda: is_ready(url))
    assert httpx2.post(f"{url}/predict", json={"text": "hello"}).status_code == 200
    eventually(lambda: replica.status().counts.get("bus_unavailable", 0) > 1)
    replica.check()


def test_without_a_store_it_waits_for_its_first_weights(
    start: Callable[..., Replica], listen: Callable[[Replica], str], store_config: StoreConfig
) -> None:
    away = replace(store_config, url="redis://127.0.0.1:1/0", timeout_ms=100)
    url = listen(replica := start(store=away))
    assert httpx2.get(f"{url}/health/live").status_code == 200
    assert httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["error"]["code"] == "no_weights"
    replica.check()
    # the client library loses a socket when it is closed while it connects
    eventually(lambda: replica._intake._is_paused)


def test_a_replica_that_starts_without_its_store_answers_with_the_version_before(
    start: Callable[..., Replica],
    listen: Callable[[Replica], str],
    tmp_path: Path,
) -> None:
    server = start_redis(tmp_path / "redis")
    config = StoreConfig(url=server.url, poll_interval_ms=50)
    store = Store(config, KEYS)
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    serving = replace(SERVING, spool_dir=str(tmp_path / "spool"))
    before = start(store=config, serving=serving)
    eventually(lambda: (tmp_path / "spool" / "weights-" / "plan").exists())
    before.close()
    server.process.kill()
    server.process.wait()
    url = listen(start(store=config, serving=serving))
    eventually(lambda: is_ready(url))
    asked = httpx2.post(f"{url}/predict", json={"text": "where is my card"}).json()["answers"][0]
    assert asked["label"] == label_of(1, "where is my card")
    assert httpx2.get(f"{url}/status").json()["arms"] == [{"name": "stable", "version": 1, "share": 1.0}]
    store.close()
    server.stop()


def test_a_replica_that_is_stopped_amid_events_loses_and_repeats_none(
    start: Callable[..., Replica], learner: TinyPublisher, bus: Bus
) -> None:
    learner.publish(1)
    learner.plan(1)
    events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(2_000)]
    with closing(bus.publisher()) as publisher:
        for event in events:
            publisher.send(event)
    first = start()
    eventually(lambda: first.status().counts.get("answers", 0) > 200)
    first.close()
    last = first.status()
    assert last.open_events == 0 and {*last.refused_below.values()} == {0.0}
    assert {*last.forwards.values()} == {make_model(1).encoder.implementation}
    start()
    found = [answer.event_id for answer in answers(bus, len(events))]
    assert sorted(found) == sorted(event.id for event in events)
