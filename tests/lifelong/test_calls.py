"""Records become entries, and results become records: receipts, features, and answers of another form."""

import json
from typing import Any

import msgspec
import pytest

from lifelong.calls import Calls, ServedAnswer
from lifelong.errors import ClientError, UnknownAnswer
from lifelong.exchange import Attempt, Exchange, ExchangePolicy, Finished, T, next_step
from lifelong.replies import HttpReply
from wire.records import Answer, Event

ANSWER: dict[str, Any] = {
    "event_id": "e1",
    "source": "http",
    "label": None,
    "score": 0.0,
    "scores": [],
    "weights_version": 3,
    "arm": "stable",
    "precision": "int8",
    "rollout_revision": 1,
    "key": "k",
    "receipt": "r",
    "something_new": 5,
}

OF_A_TASK = ("score", "weights_version", "arm", "precision", "rollout_revision")


def calls() -> Calls:
    return Calls(ExchangePolicy(timeout_s=1.0, attempt_timeout_s=1.0, max_entries=9), max_receipts=9)


def play(exchange: Exchange[T], **body: Any) -> tuple[list[dict[str, Any]], T]:
    """Returns the entries of the only request, and the result after a response with `body`."""
    attempt = next_step(exchange, None)
    assert isinstance(attempt, Attempt)
    finished = next_step(exchange, HttpReply(200, {}, msgspec.json.encode(body)))
    assert isinstance(finished, Finished)
    ((_, entries),) = json.loads(attempt.body).items()
    return entries, finished.result


def test_features_are_sent_with_an_event_and_with_the_label_of_an_unpublished_answer() -> None:
    asked = Event(id="e1", features={"amount": 12.5})
    entries, (answer,) = play(calls().predict([asked]), answers=[ANSWER | {"can_be_labelled": False}])
    assert entries == [{"id": "e1", "text": "", "key": "", "features": {"amount": 12.5}}]
    assert isinstance(answer, ServedAnswer)
    assert answer.features == {"amount": 12.5}
    labels, _ = play(calls().feedback([(answer, "up")], correct=False), labels=[{"source": "desk"}])
    assert labels[0]["features"] == {"amount": 12.5}


def test_unknown_fields_are_ignored() -> None:
    entries, (answer,) = play(calls().predict([Event(id="e1", text="t", key="k")]), answers=[ANSWER])
    assert entries == [{"id": "e1", "text": "t", "key": "k"}]
    assert isinstance(answer, ServedAnswer)
    assert (answer.label, answer.text, answer.weights_version) == (None, "t", 3)


def test_an_answer_of_another_form_is_an_error() -> None:
    _, (answer,) = play(calls().predict(["t"]), answers=[{**ANSWER, "weights_version": "three"}])
    assert isinstance(answer, ClientError)
    assert answer.code == "not_understood"


def test_an_answer_from_the_topic_can_be_labelled_too() -> None:
    answer = msgspec.convert({**ANSWER, "source": "shop", "text": "t"}, Answer)
    entries, (taken,) = play(calls().feedback([(answer, "lost")], correct=True), labels=[{"source": "desk"}])
    assert entries == [
        {
            "event_id": "e1",
            "label": "lost",
            "key": "k",
            "receipt": "r",
            "event_source": "shop",
            "text": "",
            "correct": True,
        }
    ]
    assert not isinstance(taken, ClientError)
    assert taken.source == "desk"


def test_the_text_is_sent_with_the_label_of_an_unpublished_answer() -> None:
    used = calls()
    play(used.predict(["t"]), answers=[{**ANSWER, "can_be_labelled": False}])
    entries, _ = play(used.feedback([("e1", "lost")], correct=False), labels=[{"source": "desk"}])
    assert entries[0]["text"] == "t"


def test_a_set_of_labels_is_a_list_in_both_directions() -> None:
    _, (answer,) = play(calls().predict(["t"]), answers=[ANSWER | {"labels": ["refund", "urgent"]}])
    assert isinstance(answer, ServedAnswer)
    assert answer.labels == ("refund", "urgent")
    entries, (taken,) = play(calls().feedback([(answer, ["lost"])], correct=False), labels=[{"source": "desk"}])
    assert (entries[0]["label"], entries[0]["labels"]) == ("", ["lost"])
    assert not isinstance(taken, ClientError) and taken.labels == ("lost",)


def test_a_score_is_a_number_in_both_directions() -> None:
    _, (answer,) = play(calls().predict(["t"]), answers=[ANSWER | {"value": 3.25}])
    assert isinstance(answer, ServedAnswer)
    assert answer.value == 3.25
    entries, (taken,) = play(calls().feedback([(answer, 4)], correct=False), labels=[{"source": "desk"}])
    assert (entries[0]["label"], entries[0]["value"]) == ("", 4.0)
    assert not isinstance(taken, ClientError) and taken.value == 4.0


def test_the_label_of_a_task_has_the_receipt_of_the_answer_by_that_task() -> None:
    used = calls()
    urgency = {**{name: ANSWER[name] for name in OF_A_TASK}, "label": "high", "receipt": "r2"}
    entries, (answer,) = play(
        used.predict([Event(id="e1", text="t", tasks=("", "urgency"))]),
        answers=[ANSWER | {"tasks": {"urgency": urgency}}],
    )
    assert entries[0]["tasks"] == ["", "urgency"]
    assert isinstance(answer, ServedAnswer) and answer.tasks["urgency"].label == "high"
    for label in ((answer, "low"), ("e1", "low")):
        entries, _ = play(used.feedback([label], correct=False, task="urgency"), labels=[{"source": "desk"}])
        assert (entries[0]["task"], entries[0]["receipt"]) == ("urgency", "r2")
    entries, _ = play(used.feedback([(answer, "lost")], correct=False), labels=[{"source": "desk"}])
    assert entries[0]["receipt"] == "r" and "task" not in entries[0]
    with pytest.raises(UnknownAnswer, match="task 'colour' did not answer 'e1': '', 'urgency' did"):
        play(used.feedback([(answer, "red")], correct=False, task="colour"), labels=[])
