"""The names, versions, inputs and outputs of the one model."""

import pytest

from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import Unpublished
from serving.v2 import (
    INPUTS,
    OUTPUTS,
    Tensor,
    build_columns,
    build_metadata,
    decode_events,
    find_version,
    list_versions,
)
from tests.serving.versions import live_versions
from wire.records import Answer

ANSWER = Answer(
    event_id="e1", text="t", label="a", score=0.5, weights_version=3, arm="stable", precision="int8", rollout_revision=1
)
LIVE = live_versions([3, 4])


def texts(name: str, *values: str) -> Tensor:
    return Tensor(name, "BYTES", (len(values),), values)


def test_versions_are_named_by_arm_and_by_number() -> None:
    assert list_versions(LIVE) == ("stable", "candidate", "3", "4")
    named = [find_version("lifelong", version, LIVE) for version in ("", "stable", "candidate", "4")]
    assert named == [0, 3, 4, 4]
    assert (list_versions(None), find_version("lifelong", "", None)) == ((), 0)


@pytest.mark.parametrize("version", ["9", "newest", "-3", "\u0663", "3.0", "9" * 99])
def test_an_unknown_version_is_refused_with_those_that_there_are(version: str) -> None:
    for live, known in ((LIVE, "stable, candidate, 3, 4"), (None, "none")):
        with pytest.raises(RequestRefused, match=known) as caught:
            find_version("lifelong", version, live)
        assert caught.value.problem.status == 404


def test_another_model_is_refused() -> None:
    with pytest.raises(RequestRefused, match="lifelong"):
        find_version("resnet", "", LIVE)


def test_the_metadata_names_every_tensor() -> None:
    metadata = build_metadata(LIVE)
    assert [tensor.name for tensor in metadata.inputs] == [*INPUTS]
    assert [(tensor.name, tensor.shape) for tensor in metadata.outputs] == [(name, (-1,)) for name in OUTPUTS]


def test_each_row_is_an_event() -> None:
    tensors = [texts("text", "a", "b"), texts("id", "e1", ""), texts("key", "k", "")]
    one, two = decode_events(tensors, now_ms=5, new_id=lambda: "new")
    assert (one.id, one.text, one.key, one.source, one.time_ms) == ("e1", "a", "k", "http", 5)
    assert (two.id, two.key) == ("new", "")


def test_features_are_objects_beside_the_texts_or_instead_of_them() -> None:
    features = texts("features", '{"amount": 12.5, "country": "nz"}', "")
    one, two = decode_events([features, texts("text", "", "hello")], now_ms=5, new_id=lambda: "new")
    assert (one.text, one.features, two.text, two.features) == ("", {"amount": 12.5, "country": "nz"}, "hello", {})
    (alone,) = decode_events([texts("features", '{"amount": 1}')], now_ms=5, new_id=lambda: "new")
    assert (alone.text, alone.features) == ("", {"amount": 1.0})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([], "`text`, `features` and `parts` are all missing"),
        ([texts("text", "a"), texts("text", "a")], "twice"),
        ([texts("text", "a"), texts("key", "k", "l")], "`key` has 2 elements"),
        ([texts("text", "a"), texts("image", "k")], "no such input"),
        ([texts("text", "a", " ")], "element 1: `text` is blank"),
        ([texts("features", '{"x": 1}', "")], "element 1: `text` is blank"),
        ([texts("features", '{"x": 1}', '{"x": [1]}')], "element 1: `features` is not a JSON object"),
        ([texts("text", "a"), texts("features", "{")], "element 0: `features` is not a JSON object"),
        ([texts("parts", "{}")], "element 0: `parts` is not a JSON list of objects"),
        ([texts("parts", "[{}]")], "element 0: `parts` has the `type` None, which no input has"),
        ([texts("features", '{"": 1}')], "element 0: `features` has a name that is blank"),
        ([texts("features", '{"x": 1}', "{}"), texts("key", "k")], "`key` has 1 elements, but `features` has 2"),
    ],
)
def test_wrong_inputs_are_refused_by_name(tensors: list[Tensor], said: str) -> None:
    with pytest.raises(RequestRefused, match=said) as caught:
        decode_events(tensors, now_ms=5, new_id=lambda: "new")
    assert caught.value.problem.status == 400


def test_answers_become_columns() -> None:
    columns = {column.name: list(column.values) for column in build_columns([ANSWER, Unpublished(ANSWER)], [])}
    assert columns.keys() == OUTPUTS.keys()
    assert (columns["label"], columns["score"], columns["version"]) == (["a", "a"], [0.5, 0.5], [3, 3])
    assert columns["can_be_labelled"] == [True, False]
    assert [column.name for column in build_columns([ANSWER], ["score", "label"])] == ["label", "score"]


@pytest.mark.parametrize(("status", "shown"), [(422, 400), (503, 503), (504, 504)])
def test_an_event_without_an_answer_fails_the_request(status: int, shown: int) -> None:
    with pytest.raises(RequestRefused, match="not answered") as caught:
        build_columns([ANSWER, Problem(status=status, code="x", message="not answered")], [])  # type: ignore[arg-type]
    assert caught.value.problem.status == shown
    with pytest.raises(RequestRefused, match="no such output"):
        build_columns([ANSWER], ["probability"])
