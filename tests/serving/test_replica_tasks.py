"""The tasks of a whole replica: each is answered from its own store, and none waits for another."""

from collections.abc import Callable
from contextlib import closing

import httpx2
import pytest

from serving.replica import Replica
from serving.replica_config import TaskConfig
from tests.brokers import take
from tests.serving.replicas import is_ready
from tests.serving.versions import TinyPublisher, label_of
from tests.stores import KEYS
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import LabelConfig, StoreConfig
from wire.records import DeadLetter, Event
from wire.store import Store

pytestmark = pytest.mark.live


def test_each_task_is_answered_from_its_own_store_and_a_task_that_there_is_not_is_refused(
    start: Callable[..., Replica],
    listen: Callable[[Replica], str],
    learner: TinyPublisher,
    bus: Bus,
    store_config: StoreConfig,
) -> None:
    """The versions of both tasks are called 1; until the second has one, it is left out."""
    learner.publish(1)
    learner.plan(1)
    url = listen(start(tasks={"urgency": TaskConfig(labels=LabelConfig(mode="listed", allow=("high",)))}))
    eventually(lambda: is_ready(url))
    event = {"text": "where is my card"}
    assert "tasks" not in httpx2.post(f"{url}/predict", json=event).json()["answers"][0]
    asked = httpx2.post(f"{url}/predict", json={**event, "tasks": ["urgency"]})
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "no_weights")

    with closing(Store(store_config, KEYS, task="urgency")) as of_task:
        urgency = TinyPublisher(of_task)
        urgency.publish(1, encoder_seed=1)
        urgency.plan(1)
        eventually(lambda: "tasks" in httpx2.post(f"{url}/predict", json=event).json()["answers"][0])
        answer = httpx2.post(f"{url}/predict", json={**event, "id": "both"}).json()["answers"][0]
        assert answer["label"] == label_of(1, event["text"])
        assert answer["tasks"]["urgency"]["label"] == label_of(1, event["text"], encoder_seed=1)
        eventually(lambda: any(report.counts.get("answers_int8") for report in of_task.reports.replicas()))
        assert httpx2.get(f"{url}/status").json()["tasks"]["urgency"]["arms"][0]["version"] == 1

    label = {"event_id": "both", "label": "high", "task": "urgency", "receipt": answer["tasks"]["urgency"]["receipt"]}
    assert httpx2.post(f"{url}/feedback", json=label).status_code == 200
    refused = {
        "label_not_listed": {**label, "label": "red"},
        "forged_receipt": {**label, "receipt": answer["receipt"]},
        "unknown_task": {**label, "task": "colour"},
    }
    for code, each in refused.items():
        response = httpx2.post(f"{url}/feedback", json=each)
        assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    wrong = httpx2.post(f"{url}/predict", json={**event, "tasks": ["", "colour"]})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_task")
    with closing(bus.publisher()) as publisher:
        publisher.send(Event(id="nobody", text="hi", tasks=("colour",)))
    with closing(bus.follow([DeadLetter], {})) as follower:
        (letter,) = take(follower.poll, 1)
    assert letter.record.reason == "unknown_task" and "'urgency'" in letter.record.detail


def test_a_task_whose_versions_are_all_refused_keeps_no_other_from_being_ready(
    start: Callable[..., Replica],
    listen: Callable[[Replica], str],
    learner: TinyPublisher,
    store_config: StoreConfig,
) -> None:
    """N14: at its next start, each replica answered 503 for all tasks."""
    learner.publish(1)
    learner.plan(1)
    with closing(Store(store_config, KEYS, task="urgency")) as of_task:
        broken = TinyPublisher(of_task)
        broken.publish(1, model_spec="0" * 64)
        broken.plan(1)
        url = listen(start(tasks={"urgency": TaskConfig()}))
        eventually(lambda: is_ready(url))
        answer = httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["answers"][0]
        assert answer["label"] == label_of(1, "hello") and "tasks" not in answer
        asked = httpx2.post(f"{url}/predict", json={"text": "hello", "tasks": ["urgency"]})
        assert (asked.status_code, asked.json()["error"]["code"]) == (503, "no_weights")
        (report,) = of_task.reports.replicas()
        assert report.alarms == ("no version answers: the replica refused every stored version (wrong_spec)",)
        broken.publish(2)
        broken.plan(2)
        eventually(lambda: "tasks" in httpx2.post(f"{url}/predict", json={"text": "hello"}).json()["answers"][0])
