"""Labels by HTTP: who they are from, which are refused, and when they are acknowledged."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.http.access import KeyFile, Role, create_key
from tests.serving.http.served_api import Response, ServedApi, read_error
from tests.serving.kafka.fake_broker import FakeBroker
from tests.serving.versions import RECEIPTS
from tests.waiting import eventually
from wire.config import LabelConfig
from wire.errors import BusUnavailable
from wire.label_set import LabelSet
from wire.records import MAX_TEXT_CHARS, Feedback, LabelCommand

LABEL = {"event_id": "e1", "label": "lost card"}


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def labelled(broker: FakeBroker) -> Iterator[ServedApi]:
    open_publisher: Callable[[], Any] = broker.open
    with ServedApi(open_publisher=open_publisher, timeout_s=2.0).running() as served:
        served.pipeline.outbox.start()
        yield served
        served.pipeline.outbox.close(5)


def sent(broker: FakeBroker) -> list[Feedback]:
    return [record for record, _ in broker.sent if isinstance(record, Feedback)]


def ask(served: ServedApi) -> dict[str, Any]:
    body = {"text": "where is my card", "id": "e1", "key": "k"}
    answer: dict[str, Any] = served.client.post("/v1/predict", json=body).json()["answers"][0]
    return answer


def test_the_label_of_an_answer_is_sent_with_its_receipt(labelled: ServedApi, broker: FakeBroker) -> None:
    answer = ask(labelled)
    body = {**LABEL, "key": "k", "receipt": answer["receipt"], "event_source": answer["source"]}
    response = labelled.client.post("/v1/feedback", json=body)
    assert (response.status_code, response.json()) == (200, {"labels": [{**LABEL, "source": "testclient"}]})
    (record,) = sent(broker)
    assert (record.event_id, record.label, record.source, record.event_source) == (
        *LABEL.values(),
        "testclient",
        "http",
    )
    assert RECEIPTS.refusal(record, is_required=True, max_age_ms=1_000) == ""
    # It is counted by the thread that sent it, which may come later than the reply.
    eventually(lambda: labelled.pipeline.counts.snapshot().get("labels") == 1)


def test_a_forged_receipt_is_refused_at_once(labelled: ServedApi, broker: FakeBroker) -> None:
    receipt = ask(labelled)["receipt"]
    for wrong in ({"receipt": receipt}, {"receipt": "f" + receipt, "key": "k"}, {"receipt": "none", "key": "k"}):
        assert read_error(labelled.client.post("/v1/feedback", json={**LABEL, **wrong})) == "422 forged_receipt"
    assert sent(broker) == []


def test_a_wrong_label_of_a_list_fails_alone(labelled: ServedApi, broker: FakeBroker) -> None:
    labels = [LABEL, {"event_id": "e2", "label": " "}, {"label": "x"}, {**LABEL, "event_id": "x" * 1_025}]
    first, *others = labelled.client.post("/v1/feedback", json={"labels": labels}).json()["labels"]
    assert first["event_id"] == "e1"
    assert [other["error"]["code"] for other in others] == ["wrong_schema"] * 3
    assert len(sent(broker)) == 1


@pytest.mark.parametrize("body", ["", "[]", '{"labels": []}', '{"labels": 5}', '{"event_id": "e"}', '{"label": null}'])
def test_other_bodies_are_refused(labelled: ServedApi, body: str) -> None:
    assert read_error(labelled.client.post("/v1/feedback", content=body)) in ("400 not_json", "422 wrong_schema")


def test_no_more_of_a_text_is_sent_than_a_record_carries(labelled: ServedApi, broker: FakeBroker) -> None:
    labelled.client.post("/v1/feedback", json={**LABEL, "text": "x" * 500_000})
    assert len(sent(broker)[0].text) == MAX_TEXT_CHARS


def test_a_label_that_the_broker_has_not_taken_is_a_503(labelled: ServedApi, broker: FakeBroker) -> None:
    broker.says = lambda record: BusUnavailable("away")
    headers = {"x-request-timeout-ms": "100"}
    assert read_error(labelled.client.post("/v1/feedback", json=LABEL, headers=headers)) == "504 deadline_exceeded"
    assert read_error(labelled.client.post("/v1/feedback", json=LABEL)) == "503 not_acknowledged"


def test_labels_that_wait_for_the_broker_are_bounded(labelled: ServedApi, broker: FakeBroker) -> None:
    broker.hold = []
    labels = [{**LABEL, "event_id": f"e{number}"} for number in range(10)]
    found = labelled.client.post("/v1/feedback", json={"labels": labels})
    assert read_error(found) == "503 not_acknowledged"
    assert read_error(labelled.client.post("/v1/feedback", json=LABEL)) == "503 bus_full"
    for acknowledge in broker.hold:
        acknowledge(None)


def test_a_label_outside_the_list_is_refused_by_name(labelled: ServedApi, broker: FakeBroker) -> None:
    labelled.labels = LabelSet(LabelConfig(mode="listed", allow=("lost card", "refund")))
    reply = labelled.client.post("/v1/feedback", json={**LABEL, "label": "lost crad"})
    assert read_error(reply) == "422 label_not_listed"
    assert "did you mean 'lost card'?" in reply.json()["error"]["message"]
    assert labelled.pipeline.counts.snapshot()["labels_not_listed"] == 1
    assert labelled.client.post("/v1/feedback", json={**LABEL, "label": " lost  card"}).status_code == 200
    retired = LabelCommand(number=1, action="retire", labels=("refund",))
    labelled.labels = labelled.labels.after(retired)
    assert read_error(labelled.client.post("/v1/feedback", json={**LABEL, "label": "refund"})) == "422 label_retired"
    assert len(sent(broker)) == 1


def test_a_label_that_waits_for_an_operator_is_taken(labelled: ServedApi, broker: FakeBroker) -> None:
    labelled.labels = LabelSet(LabelConfig(mode="ask"))
    assert labelled.client.post("/v1/feedback", json=LABEL).status_code == 200 and len(sent(broker)) == 1


@pytest.fixture
def keyed(tmp_path: Path, broker: FakeBroker) -> Iterator[Callable[[str, dict[str, Any]], Response]]:
    """Posts a label with the key of this name."""
    path = tmp_path / "keys.json"
    texts = {role.value: create_key(path, f"the {role}", [role], now_ms=5)[1] for role in Role}
    open_publisher: Callable[[], Any] = broker.open
    with ServedApi(open_publisher=open_publisher, keys=KeyFile(path)).running() as served:
        served.pipeline.outbox.start()
        yield lambda name, body: served.client.post("/v1/feedback", json=body, headers={"x-api-key": texts[name]})
        served.pipeline.outbox.close(5)


def test_the_source_of_a_label_is_the_name_of_its_key(keyed: Callable[..., Response], broker: FakeBroker) -> None:
    assert keyed("feedback", {**LABEL, "source": "somebody else"}).status_code == 200
    assert [record.source for record in sent(broker)] == ["the feedback"]
    assert read_error(keyed("predict", LABEL)) == "403 forbidden"


def test_only_an_administrator_replaces_a_label(keyed: Callable[..., Response], broker: FakeBroker) -> None:
    body = {**LABEL, "event_source": "http", "correct": True}
    assert read_error(keyed("feedback", body)) == "403 forbidden"
    assert read_error(keyed("admin", {**LABEL, "correct": True})) == "422 wrong_schema"
    assert keyed("admin", body).status_code == 200
    (record,) = sent(broker)
    assert record.approval
    assert RECEIPTS.refusal(record, is_required=True, max_age_ms=1.0) == ""


def test_a_set_of_labels_is_a_list_of_an_event_and_of_each_in_a_list(broker: FakeBroker) -> None:
    open_publisher: Callable[[], Any] = broker.open
    sets = LabelSet(LabelConfig(kind="multilabel"))
    with ServedApi(open_publisher=open_publisher, timeout_s=2.0, labels=sets).running() as served:
        served.pipeline.outbox.start()
        one = served.client.post("/v1/feedback", json={"event_id": "e1", "labels": ["lost card", "urgent"]})
        assert one.json()["labels"][0]["labels"] == ["lost card", "urgent"]
        many = served.client.post("/v1/feedback", json={"labels": [{"event_id": "e2", "labels": []}, LABEL]})
        first, second = many.json()["labels"]
        assert first["labels"] == []
        assert second["error"]["code"] == "label_wrong_kind"
        assert "send `labels`, a list" in second["error"]["message"]
        served.pipeline.outbox.close(5)
    assert [record.labels for record in sent(broker)] == [("lost card", "urgent"), ()]
