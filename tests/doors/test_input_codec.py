"""Inputs of another package go the whole way, and what no input may be is one clear error.

event -> answer -> label -> learnt -> version -> swap -> erasure -> checkpoint -> restore
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
import torch

from learner.errors import StateRefused
from learner.learner import Learner
from learner.relabelling import follow_settings
from model.errors import UnreadableInput, WrongConfig
from model.inputs import InputMap, tensors_of, tokenize_contents
from model.qtensor import FP32, QTensor
from serving.errors import VersionRefused
from serving.http.problems import Problem
from serving.http.schemas import read_request
from serving.pipeline import make_encode, make_items
from serving.queue import DEFAULT, ItemFailure, Outcome
from serving.v2 import BYTES, Tensor, decode_events
from serving.weights.loader import encode_contents
from serving.weights.refusals import map_load_errors
from tests.doors.others import Other, fails
from tests.doors.picture import PICTURE
from tests.doors.point import POINT, PointCodec
from tests.doors.point_tensors import STATE
from tests.flow import test_in_memory
from tests.flow.test_in_memory import NUM_EVENTS, Service, share_right
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, small_learner
from tests.learner.streams import answer as answer_of
from tests.learner.streams import make_subject
from tests.serving.pipelines import make_pipeline
from tests.serving.versions import RECEIPTS, build_encoder, live_versions, tokenizer
from wire.envelope import check_fields, from_message, to_message
from wire.errors import BadMessage
from wire.events import content
from wire.inputs import (
    INPUTS,
    MAX_EVENT_BYTES,
    InputCodec,
    ParsedContent,
    Part,
    decode_content,
    encode_content,
    encoded,
    parse_content,
    parse_record,
    render,
)
from wire.message import Message, Place
from wire.plugins import PluginError
from wire.records import Answer, Event, Feedback
from wire.store import Store

PATHS = ("tests.doors.point:POINT", "tests.doors.picture:PICTURE")
for path in PATHS:
    INPUTS.get(path)

PLACE = Place(topic="t", partition=0, offset=0)


def point(number: int) -> Part:
    """A point that is near or far, on either side: the label hangs on both numbers."""
    x, y = number % 2, number // 2 % 2
    return {"type": "point", "x": 1_000.0 + 20 * x + number % 3, "y": -7.0 + 4 * y + number % 5 / 10}


def label_of(number: int) -> str:
    return "same" if number % 2 == number // 2 % 2 else "other"


LABELS = [label_of(number) for number in range(NUM_EVENTS)]


def events(name: str) -> list[Event]:
    return [Event(id=f"{name}-{number}", parts=(point(number),)) for number in range(NUM_EVENTS)]


service = test_in_memory.service


def test_a_point_is_answered_by_the_version_that_has_learnt_points(service: Service, store: Store) -> None:
    service.publish()
    before = service.answer(events("first"))
    assert [answer.parts for answer in before] == [event.parts for event in events("first")]
    service.label(before, LABELS)
    service.learner.learner.tick()
    assert service.publish() == 2
    manifest = store.versions.manifest(2)
    assert STATE in {entry.name for entry in manifest.tensors}, "what was measured of points is part of the version"
    compared = service.answer(events("second"))
    service.label(compared, LABELS)
    service.await_swap()
    after = service.answer(events("third"))
    assert {(answer.weights_version, answer.arm) for answer in after} == {(2, "stable")}
    assert share_right(after, LABELS) >= 0.9


def test_a_version_with_a_probe_of_an_input_that_is_not_installed_is_refused() -> None:
    probe = encode_content("", {}, [{"type": "unheard"}])
    with pytest.raises(VersionRefused, match="has the `type` 'unheard'") as caught, map_load_errors():
        encode_contents([probe], build_encoder(), tokenizer(), "int8", 64)
    assert caught.value.reason == "bad_probe"


def picture(number: int, *, noise: int = 0) -> Part:
    greys = [10 * (number % 2) + 3, 200 + number % 2, noise % 7]
    return {"type": "picture", "data": b64encode(bytes(greys * 4)).decode()}


def test_the_encoder_reads_a_picture_and_its_answer_has_the_tokens_in_place_of_the_bytes(service: Service) -> None:
    labels = [("dark", "light")[number % 2] for number in range(NUM_EVENTS)]

    def pictures(name: str) -> list[Event]:
        return [Event(id=f"{name}-{n}", parts=(picture(n, noise=n),)) for n in range(NUM_EVENTS)]

    service.publish()
    before = service.answer(pictures("first"))
    assert all(answer.parts[0].keys() == {"type", "digest", "tokens"} for answer in before)
    service.label(before, labels)
    service.publish()
    service.await_swap()
    assert share_right(service.answer(pictures("second")), labels) >= 0.9


def test_an_event_has_one_vector_in_the_replica_and_in_the_learner_whatever_it_says() -> None:
    served = small_learner().fast_head.served
    said: list[dict[str, Any]] = [
        {"text": "where is my card", "parts": (point(1), PICTURE.cut(picture(1), 64))},
        {"features": {"price": 2.0, "city": "a"}, "parts": (point(2),)},
        {"parts": (PICTURE.cut(picture(3), 64),)},
        {"parts": (point(1),)},
        {"text": "where is my card"},
    ]
    each = [Event(id="e", **fields) for fields in said]
    z_BD = served.z_many([content(event) for event in each])
    assert torch.allclose(z_BD.norm(dim=1), torch.ones(len(each)))
    assert len({tuple(z_D.tolist()) for z_D in z_BD}) == len(each)
    items = make_items(each, [lambda _: None] * len(each), make_encode(served.tokenizer, lambda: 64), DEFAULT, 64)
    live = live_versions([1])
    encoder = served._encoder
    replica_BD = live.health.encode_events(
        [item.event for item in items], [item.token_ids for item in items], encoder, "int8"
    )
    assert z_BD.equal(replica_BD)
    for row, event in enumerate(each):
        assert z_BD[row].equal(served.z_many([content(event)])[0])


def test_rounds_train_the_encoder_on_pictures_and_not_on_points() -> None:
    learner = small_learner()
    for number in range(120):
        part = PICTURE.cut(picture(number, noise=number), 64) if number % 4 else point(number)
        learner.learn_many(make_records([number], part), {})
        learner.tick()
    assert learner.counts["rounds"] > 0 and learner.counts["learnt"] > 90
    assert learner.progress.num_textless == sum(not encoded(sample.text) for sample in [*learner.replay.samples()])


def make_records(numbers: Iterable[int], part: Part | None = None) -> list[Answer | Feedback]:
    records = list[Answer | Feedback]()
    for number in numbers:
        said = msgspec.structs.replace(answer_of(number, label=None), text="", parts=(part or point(number),))
        records += [said, Feedback(event_id=f"event-{number}", label=label_of(number), time_ms=number)]
    return records


def build_learner(numbers: Iterable[int]) -> Learner:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(make_records(numbers), {})
    return learner


def list_tables(learner: Learner) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in learner.fast_head.export().items()}


def test_the_sums_without_an_erased_subject_are_those_of_all_others_bit_for_bit() -> None:
    learner = build_learner(range(40))
    others = build_learner(number for number in range(40) if make_subject(number) != make_subject(3))
    learner.erased.add(SUBJECT_DIGEST(make_subject(3)))
    assert learner.erase(keep_alive=lambda: None)["replay"] > 2
    assert all(sample.subject != make_subject(3) for sample in learner.replay.samples())
    mine, theirs = list_tables(learner), list_tables(others)
    assert mine["class"] == theirs["class"] and mine["gram"] == theirs["gram"]


class PointRig(PublishRig):
    def learn(self, first: int, last: int) -> None:
        self.learner.learn_many(make_records(range(first, last)), {"feedback.v1/0": last})
        self.learner.tick()


@pytest.mark.live
def test_a_checkpoint_brings_points_back_with_what_was_measured_of_them(store: Store, tmp_path: Path) -> None:
    rig = PointRig(store, tmp_path)
    rig.learn(0, 60)
    rig.publish()
    sums, states = list_tables(rig.learner), rig.learner.fast_head.served.states
    assert states.keys() == {STATE}
    rig.start()
    follow_settings(rig.learner)
    assert list_tables(rig.learner) == sums
    assert rig.learner.fast_head.served.states[STATE].entry == states[STATE].entry
    rig.learn(60, 80)
    assert rig.publish() > 1
    snapshot = rig.checkpoints.newest()
    assert snapshot is not None
    gone = INPUTS._plugins.pop("point")
    try:
        with pytest.raises(StateRefused, match=r"the `type` 'point', which no input has: there are .*, picture"):
            rig.learner.restore(snapshot)
    finally:
        INPUTS._plugins["point"] = gone


def test_parts_come_by_every_way_in() -> None:
    parts = [point(1)]
    message = Message(key=None, value=json.dumps({"parts": parts}).encode())
    read = from_message(Event, message, PLACE)
    assert read.parts == tuple(parts) and render(read) == "(1021, -6.9)"
    assert from_message(Event, to_message(read), PLACE).parts == read.parts

    body = json.dumps({"parts": parts, "id": "7"}).encode()
    entries = read_request(body, max_events=9, now_ms=1, new_id=lambda: "new")
    assert not isinstance(entries, Problem)
    ((event,), is_list) = entries
    assert isinstance(event, Event) and (event.parts, event.id, is_list) == (tuple(parts), "7", False)

    tensor = Tensor("parts", BYTES, (1,), [json.dumps(parts)])
    (event,) = decode_events([tensor], now_ms=1, new_id=lambda: "new")
    assert (event.parts, event.text) == (tuple(parts), "")


def test_a_large_input_may_have_a_larger_message_than_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"text": "x", "parts": [{**point(1), "note": MAX_EVENT_BYTES * "n"}]}).encode()
    message = Message(key=None, value=body)
    with pytest.raises(BadMessage, match=f"at most {MAX_EVENT_BYTES} are read"):
        from_message(Event, message, PLACE)
    monkeypatch.setattr(PointCodec, "max_bytes", 2 * MAX_EVENT_BYTES)
    assert from_message(Event, message, PLACE).parts[0]["x"] == point(1)["x"]


def test_a_label_that_says_its_event_is_approved_and_learnt_by_that() -> None:
    label = Feedback(event_id="old", label="same", parts=(point(1),), time_ms=1, event_source="", key="k")
    approved = RECEIPTS.approved(label)
    assert RECEIPTS.refusal(approved, is_required=True, max_age_ms=1e9) == ""
    other = msgspec.structs.replace(approved, parts=(point(2),))
    assert RECEIPTS.refusal(other, is_required=True, max_age_ms=1e9) != ""
    learner = small_learner(RECEIPTS, trainable_layers=0)
    assert learner.learn_many([approved], {}) == []
    assert learner.counts["learnt"] + learner.counts["holdout"] == 1


@pytest.mark.parametrize("path", ["features", *PATHS])
def test_the_laws_of_every_input(path: str) -> None:
    codec = INPUTS.get(path)
    assert INPUTS.get(codec.name) is codec
    tensors_of(codec)
    for value in codec.examples:
        parts = (value,) if codec.field == "parts" else ()
        event = Event(id="e", text="hello", parts=parts, features={} if parts else value)
        check_fields(event)
        assert parse_content(content(event)) == parse_record(event) == ParsedContent("hello", ((codec, value),))
        assert decode_content(content(event)) == {"text": "hello", "parts": event.parts, "features": event.features}
        assert content(event) == encode_content("hello", dict([*event.features.items()][::-1]), parts)
        assert from_message(Event, to_message(event), PLACE) == event


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (({"type": "unheard"},), "`parts` has the `type` 'unheard', which no input has"),
        (({"type": "os:system"},), "which no input has"),
        (({"type": 7},), "which no input has"),
        (({"type": "features"},), "which no input has"),
        (({},), "which no input has"),
        (({"type": "point", "x": "1"},), "a point needs `x` and `y`, two numbers"),
        ((point(1),) * 17, "`parts` has 17 parts, at most 16 are read"),
        (({"type": "picture", "data": "!"},), "a picture whose `data` is not base64"),
        (({"type": "picture", "data": ["x"]},), "not base64"),
    ],
)
def test_a_part_that_cannot_be_read_is_a_bad_message_that_names_it(parts: tuple[Part, ...], said: str) -> None:
    for record in (Event(id="e", parts=parts), Feedback(event_id="e", label="a", parts=parts)):
        with pytest.raises(BadMessage, match=r"wrong_schema") as caught:
            check_fields(record)
        assert said in str(caught.value)


def other_point(changed: dict[str, Any]) -> Other:
    return Other(POINT, {"examples": tuple({**value, "type": "other"} for value in POINT.examples), **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cut": None}, "lacks cut"),
        ({"field": "features"}, "its field `features` belongs to the input 'features': use `parts`"),
        ({"field": "text"}, "its field is `text`: use `parts`"),
        ({"examples": ()}, "it needs an example"),
        ({"examples": POINT.examples}, "its `type` is not 'other'"),
        ({"cut": fails}, "it raises RuntimeError: not today"),
        ({"cut": lambda value, max_tokens: {"type": "other"}}, "the result of cut has a problem: a point needs"),
        ({"problem": lambda value: "not that"}, "it has a problem: not that"),
        ({"render": lambda value: 7}, "render does not return a text"),
        ({"sent": lambda value: {**value, "x": 1 + 2j}, "problem": lambda value: ""}, "it raises"),
    ],
)
def test_an_input_that_cannot_be_one_is_one_error_when_it_is_registered(changed: dict[str, Any], said: str) -> None:
    INPUTS.all()
    plugin: Any = other_point(changed)
    with pytest.raises(PluginError) as caught:
        INPUTS.register(plugin)
    assert said in str(caught.value)
    assert "other" not in [codec.name for codec in INPUTS.all()]


def test_a_name_that_another_input_has_is_refused_and_one_that_names_none_lists_what_there_is() -> None:
    with pytest.raises(PluginError, match="are both called 'point': rename one of them"):
        INPUTS.register(PointCodec())
    with pytest.raises(PluginError, match="did you mean 'features'"):
        INPUTS.get("feature")
    with pytest.raises(PluginError, match=r"tests.doors.none:NONE cannot be imported: ModuleNotFoundError"):
        INPUTS.get("tests.doors.none:NONE")


class Halves:
    """The tensors of points, but for what a test changes."""

    changed: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return Halves.changed.get(name) or getattr(tensors_of(POINT), name)


TENSORS = Halves()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": "layers.0.point"}, "its state is 'layers.0.point': call it inputs.other"),
        ({"open": fails}, "RuntimeError: not today"),
        ({"open": lambda width, stored: lambda value: torch.zeros(width)}, r"makes a vector that is not float64 \[8\]"),
        ({"open": lambda width, stored: lambda value: None}, "makes no vector, and it has no tokens"),
        ({"fit": fails}, "RuntimeError: not today"),
        ({"tokens": 7}, "it lacks tokens"),
    ],
)
def test_tensors_that_do_not_fit_are_one_error_before_anything_is_answered(changed: dict[str, Any], said: str) -> None:
    Halves.changed = changed
    codec: Any = other_point({"tensors": f"{__name__}:TENSORS"})
    with pytest.raises(WrongConfig, match=said):
        InputMap(64).open([codec])


def test_a_codec_that_fails_on_one_value_makes_that_event_alone_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_on_seven(value: Part, reader: Any, max_tokens: int) -> Any:
        return fails() if value["tokens"] == [7] else ["many"] if value["tokens"] == [8] else value["tokens"]

    monkeypatch.setattr(tensors_of(PICTURE), "tokens", fails_on_seven, raising=False)
    parts = [{"type": "picture", "digest": "", "tokens": [token]} for token in (7, 8, 9)]
    each = [Event(id="e", parts=(part,)) for part in parts]
    items = make_items(each, [lambda _: None] * 3, make_encode(tokenizer(), lambda: 64), DEFAULT, 64)
    failing, wrong, good = items
    assert failing.unreadable == "the input picture fails on it: RuntimeError: not today"
    assert wrong.unreadable.startswith("the input picture makes tokens that are not a list of numbers below")
    assert (good.unreadable, good.token_ids) == ("", [9])
    learner = small_learner(trainable_layers=0)
    (held,) = learner.learn_many([Feedback(event_id="e", label="a", parts=each[0].parts, time_ms=1)], {})
    assert (held.reason, held.parts) == ("unreadable", each[0].parts)


def test_a_codec_that_fails_while_its_event_is_read_is_told_of_that_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PointCodec, "cut", fails)
    (item,) = make_items(events("e")[:1], [lambda _: None], make_encode(tokenizer(), lambda: 64), DEFAULT, 64)
    assert item.unreadable == "the input point fails on it: RuntimeError: not today"
    monkeypatch.setattr(PointCodec, "problem", fails)
    with pytest.raises(BadMessage, match="the input point fails on it: RuntimeError: not today"):
        check_fields(events("e")[0])


def test_a_file_of_an_input_is_a_whole_message(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Message(key=b"k", value=b"\0\1\2", headers=(("content-type", b"application/x-grey; bits=8"),))
    event = from_message(Event, message, Place(topic="t", partition=0, offset=0))
    assert event.parts == ({"type": "picture", "data": "AAEC"},)
    monkeypatch.setattr(type(PICTURE), "part_of", fails)
    with pytest.raises(BadMessage, match="the input picture fails on it: RuntimeError: not today"):
        from_message(Event, message, Place(topic="t", partition=0, offset=0))


def test_a_vector_that_fails_in_the_engine_is_the_outcome_of_its_event_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.publish()
    live = service.pipeline.engine.live
    assert live is not None
    inputs = live.versions[1].model.encoder.inputs
    monkeypatch.setitem(inputs._opened, "point", fails)
    found = SimpleQueue[Outcome]()
    each = [Event(id="text", text="where is my card"), events("point")[0]]
    service.pipeline.queue.submit_many(service.pipeline.items(each, [found.put] * 2))
    outcomes = {type(outcome): outcome for outcome in (found.get(timeout=20), found.get(timeout=20))}
    failure = outcomes[ItemFailure]
    assert isinstance(failure, ItemFailure) and Answer in outcomes
    assert failure.reason == "unreadable"
    assert failure.detail == "the input point fails on it: RuntimeError: not today"


def test_an_event_of_which_nothing_can_be_read_is_unreadable() -> None:
    with pytest.raises(UnreadableInput, match="the encoder reads nothing of it"):
        tokenize_contents(
            [parse_record(Event(id="e", parts=({"type": "picture", "digest": "", "tokens": []},)))], tokenizer()
        )
    codec: InputCodec = INPUTS.get("point")
    assert tokenize_contents([ParsedContent("", ((codec, point(1)),))], tokenizer()) == tokenizer().encode_many([""])


class FailingEnricher:
    def join(self, events: Sequence[Event]) -> list[Event]:
        return list(fails(events))

    def start(self) -> None: ...

    def check(self, error: type[Exception]) -> None: ...

    def close(self) -> None: ...


class LosingEnricher(FailingEnricher):
    def join(self, events: Sequence[Event]) -> list[Event]:
        return []


class AddingEnricher(FailingEnricher):
    def join(self, events: Sequence[Event]) -> list[Event]:
        return [msgspec.structs.replace(event, parts=(point(1), *event.parts)) for event in events]


def test_an_enricher_adds_parts_and_one_that_fails_leaves_events_as_they_are() -> None:
    pipeline = make_pipeline(make_encode(tokenizer(), lambda: 64))
    event = Event(id="e", text="where is my card")
    for enricher, parts in ((FailingEnricher(), ()), (LosingEnricher(), ()), (AddingEnricher(), (point(1),))):
        (item,) = replace(pipeline, enrichers=[enricher]).items([event], [lambda _: None])
        assert item.event == msgspec.structs.replace(event, parts=parts)
    assert pipeline.counts.snapshot()["enricher_failures"] == 2


def test_an_input_that_cannot_be_measured_leaves_what_was_learnt_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = build_learner(range(40))
    before = list_tables(learner)
    wrong = QTensor(STATE, FP32, {"value": torch.zeros(7)})
    for fit in (fails, lambda *_, **__: wrong, lambda *_, **__: replace(wrong, name="layers.0"), lambda *_, **__: 7):
        monkeypatch.setattr(tensors_of(POINT), "fit", fit, raising=False)
        learner.progress.standardised_at = 0
        learner.tick()
        assert list_tables(learner) == before and not learner.fast_head.served.states
    monkeypatch.undo()
    learner.progress.standardised_at = 0
    learner.tick()
    assert learner.fast_head.served.states.keys() == {STATE}
