"""Bytes to events and outcomes to bytes."""

from http import HTTPStatus
from itertools import count
from typing import Any

import msgspec
import pytest

from serving.http.problems import Problem, write_problem
from serving.http.schemas import Unpublished, read_request, write_replies
from wire.records import Answer, Event


def read(body: bytes, *, max_events: int = 3) -> Any:
    ids = count()
    return read_request(body, max_events=max_events, now_ms=5, new_id=lambda: f"new{next(ids)}")


def read_problem(body: bytes) -> Problem:
    parsed = read(body)
    (problem,) = [parsed] if isinstance(parsed, Problem) else parsed[0]
    assert isinstance(problem, Problem)
    return problem


def test_one_event() -> None:
    entries, is_list = read(b'{"text": "hello", "id": "e1", "key": "k"}')
    assert entries == [Event(id="e1", text="hello", key="k", source="http", time_ms=5)]
    assert not is_list


def test_many_events_get_ids_where_they_have_none() -> None:
    entries, is_list = read(b'{"events": [{"text": "a"}, {"text": "b", "id": "own"}, {"text": "c"}]}')
    assert [entry.id for entry in entries] == ["new0", "own", "new1"]
    assert is_list


def test_an_event_may_have_features_beside_its_text_or_instead_of_it() -> None:
    entries, _ = read(
        b'{"events": [{"features": {"amount": 12, "country": "nz"}}, {"text": "a", "features": {"b": 1.5}}]}'
    )
    assert [(entry.text, entry.features) for entry in entries] == [
        ("", {"amount": 12.0, "country": "nz"}),
        ("a", {"b": 1.5}),
    ]
    (entry,), is_list = read(b'{"features": {"amount": 12}, "id": "e1"}')
    assert (entry.id, entry.features, is_list) == ("e1", {"amount": 12.0}, False)


def test_unknown_fields_are_ignored() -> None:
    entries, _ = read(b'{"text": "hello", "lang": "en"}')
    assert entries[0].text == "hello"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"text": "\xff"}', b'{"text": "\\ud800 half a pair"}', b'{"a":' * 9_000],
)
def test_bytes_that_are_no_json_are_a_400(body: bytes) -> None:
    assert (read_problem(body).status, read_problem(body).code) == (HTTPStatus.BAD_REQUEST, "not_json")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{}", "`text`"),
        (b"[]", "object"),
        (b'{"text": 5}', "$.text"),
        (b'{"text": " \\n"}', "`text` is blank"),
        (b'{"features": {"x": true}}', "$.features"),
        (b'{"features": {"x": 1}, "events": [{"text": "a"}]}', "give either"),
        (b'{"events": [{"features": {" ": 1}}]}', "a name that is blank"),
        (b'{"text": "a", "id": null}', "$.id"),
        (b'{"text": "a", "key": ["k"]}', "$.key"),
        (b'{"text": "a", "id": "' + b"i" * 201 + b'"}', "`id`"),
        (b'{"events": {}}', "$.events"),
        (b'{"events": []}', "`events` has 0 entries"),
        (b'{"events": [1, 2, 3, 4]}', "give 1 to 3"),
        (b'{"events": [], "text": "a"}', "either"),
    ],
)
def test_another_shape_is_a_422_that_names_the_field(body: bytes, named: str) -> None:
    problem = read_problem(body)
    assert (problem.status, problem.code) == (HTTPStatus.UNPROCESSABLE_ENTITY, "wrong_schema")
    assert named in problem.message


def test_in_a_list_a_wrong_event_is_a_problem_of_its_own() -> None:
    entries, _ = read(b'{"events": [{"text": "a"}, {"texd": "b"}, 7]}')
    assert isinstance(entries[0], Event)
    assert [entry.status for entry in entries[1:]] == [HTTPStatus.UNPROCESSABLE_ENTITY] * 2


def test_replies_are_written_in_order() -> None:
    answer = Answer(
        event_id="e1",
        text="hello",
        label="greeting",
        score=0.75,
        scores=(("greeting", 0.75),),
        weights_version=3,
        arm="stable",
        precision="int8",
        rollout_revision=2,
        key="customer-9",
        source="http",
        receipt="5.ab",
    )
    problem = Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code="wrong_schema", message="`text` is blank")
    first, second, third = msgspec.json.decode(write_replies([answer, problem, Unpublished(answer)]))["answers"]
    assert first == {
        "event_id": "e1",
        "source": "http",
        "label": "greeting",
        "score": 0.75,
        "scores": [["greeting", 0.75]],
        "weights_version": 3,
        "arm": "stable",
        "precision": "int8",
        "rollout_revision": 2,
        "key": "customer-9",
        "receipt": "5.ab",
        "can_be_labelled": True,
        "audit": False,
        "refused": False,
        "certainty": None,
    }
    assert second == {"error": {"code": "wrong_schema", "message": "`text` is blank"}}
    assert third == first | {"can_be_labelled": False}


def test_a_problem_names_the_request() -> None:
    problem = Problem(status=HTTPStatus.BAD_REQUEST, code="not_json", message="no")
    assert msgspec.json.decode(write_problem(problem, "r1")) == {
        "error": {"code": "not_json", "message": "no", "request_id": "r1"}
    }
