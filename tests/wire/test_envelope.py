"""Tests records as messages: the bytes are stable, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.samples import PLACE, SAMPLES, plain
from wire.envelope import from_message, to_message
from wire.kinds import MARKS
from wire.message import Message, Place
from wire.records import TOPIC_RECORDS, AdminAction, Answer, DeadLetter, Event, Feedback, Quarantined, TopicRecord
from wire.timestamps import MAX_TIME_MS

GOLDEN = Path(__file__).parent / "golden"

OLD_FIELDS: dict[type, dict[str, Any]] = {  # the value as version 1 was first written: never to be changed
    Event: {"text": str, "key": str},
    Answer: {
        "event_id": str,
        "text": str,
        "label": str | None,
        "score": float,
        "weights_version": int,
        "arm": str,
        "precision": str,
        "rollout_revision": int,
        "scores": tuple[tuple[str, float], ...],
        "key": str,
        "event_time_ms": int,
    },
    Feedback: {"event_id": str, "label": str, "key": str},
    Quarantined: {
        "reason": str,
        "event_id": str,
        "label": str,
        "key": str,
        "receipt": str,
        "text": str,
        "answered": str | None,
    },
    AdminAction: {
        "action": str,
        "outcome": str,
        "detail": str,
        "client": str,
        "number": int,
        "previous": str,
        "code": str,
    },
}

BEFORE_TASKS: dict[type, dict[str, Any]] = {
    Event: {"tasks": ()},
    Answer: {"task": "", "tasks": {}},
    Feedback: {"task": ""},
    Quarantined: {"task": ""},
}
BEFORE_FEATURES: dict[str, Any] = {"features": {}}
BEFORE_PROOF: dict[str, Any] = {"answered": None, "proof": "", **BEFORE_FEATURES}
BEFORE_TEXT: dict[str, Any] = {"text": "", **BEFORE_PROOF}
BEFORE_EVENT_SOURCE: dict[str, Any] = {"event_source": None}
BEFORE_DETAIL: dict[str, Any] = {"detail": "", **BEFORE_FEATURES}
BEFORE_REFUSAL: dict[str, Any] = {"refused": False, "certainty": None, **BEFORE_FEATURES}
BEFORE_AUDIT: dict[str, Any] = {"audit": False, **BEFORE_REFUSAL}
BEFORE: dict[str, dict[type, dict[str, Any]]] = {
    "before_receipts": {
        Answer: {"receipt": "", "vector": None, **BEFORE_AUDIT},
        Feedback: {"receipt": "", "approval": "", **BEFORE_EVENT_SOURCE, **BEFORE_TEXT},
    },
    "before_event_source": {
        Feedback: BEFORE_EVENT_SOURCE | BEFORE_TEXT,
        Quarantined: BEFORE_EVENT_SOURCE | BEFORE_DETAIL,
    },
    "before_text": {Feedback: BEFORE_TEXT},
    "before_proof": {Feedback: BEFORE_PROOF},
    "before_vector": {Answer: {"vector": None, **BEFORE_AUDIT}},
    "before_audit": {Answer: BEFORE_AUDIT},
    "before_refusal": {Answer: BEFORE_REFUSAL},
    "before_detail": {Quarantined: BEFORE_DETAIL},
    "before_features": dict.fromkeys((Event, Answer, Feedback, Quarantined), BEFORE_FEATURES),
    "before_tasks": {record: {} for record in BEFORE_TASKS},
}
"""Defaults of the fields that a message of an earlier program does not have."""

names = pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)


def golden(record: TopicRecord, variant: str = "") -> Message:
    stored = json.loads((GOLDEN / f"{record.TYPE}{variant}.json").read_text())
    return Message(
        key=stored["key"].encode(),
        value=stored["value"].encode("latin-1"),
        headers=tuple((name, value.encode("latin-1")) for name, value in stored["headers"]),
    )


def test_every_record_has_a_sample() -> None:
    assert {type(record) for record in SAMPLES} == set(TOPIC_RECORDS)


@names
def test_bytes_do_not_change(record: TopicRecord) -> None:
    assert to_message(record) == golden(record)


@names
def test_old_bytes_are_read_by_the_new_reader(record: TopicRecord) -> None:
    assert from_message(type(record), golden(record), PLACE) == record


@pytest.mark.parametrize("variant", BEFORE)
def test_bytes_from_before_a_field_are_read(variant: str) -> None:
    for record in SAMPLES:
        if (defaults := BEFORE[variant].get(type(record))) is not None:
            read = from_message(type(record), golden(record, f".{variant}"), PLACE)
            assert read == msgspec.structs.replace(record, **defaults, **BEFORE_TASKS[type(record)])


@names
def test_new_bytes_are_read_by_the_old_reader(record: TopicRecord) -> None:
    if isinstance(record, DeadLetter):
        assert to_message(record).value == record.payload
        return
    old = msgspec.defstruct("Old", list(OLD_FIELDS[type(record)].items()))
    read = msgspec.json.decode(to_message(record).value or b"", type=old)
    assert {name: getattr(read, name) for name in OLD_FIELDS[type(record)]}.items() <= msgspec.structs.asdict(
        record
    ).items()


@names
def test_fields_of_the_future_are_ignored(record: TopicRecord) -> None:
    message = to_message(record)
    value = message.value
    if not isinstance(record, DeadLetter):
        value = json.dumps({**json.loads(value or b""), "mood": [1, {"of": "tomorrow"}]}).encode()
    later = Message(key=message.key, value=value, headers=(*message.headers, ("ce_mood", b"calm"), ("trace", None)))
    assert from_message(type(record), later, PLACE) == record


def test_cloudevents_attributes() -> None:
    headers = dict(to_message(SAMPLES[0]).headers)
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": b"e-17",
        "ce_source": b"shop",
        "ce_type": b"lifelong.event.v1",
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "content-type": b"application/json",
    }


def test_plain_json_is_completed_from_kafka() -> None:
    event = from_message(Event, plain({"text": "hello"}, key=b"customer-9"), PLACE)
    assert event == Event(id="events.v1/3/1042", text="hello", key="customer-9", time_ms=5)


def test_an_id_by_the_place_names_the_log() -> None:
    """B5: after the broker has lost its log, the same offset is another event's."""
    place = Place(topic="events.v1", partition=3, offset=1042, log="GqQ1WfZsQpKfWzBLm_4nyg")
    assert from_message(Event, plain({"text": "hello"}), place).id == "events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg"


def test_plain_json_with_an_id_keeps_it() -> None:
    event = from_message(Event, plain({"id": "e1", "text": "hello", "source": "shop", "time_ms": 7}), PLACE)
    assert event == Event(id="e1", text="hello", source="shop", time_ms=7)


def test_the_key_of_an_event_without_entity_is_its_id() -> None:
    message = to_message(Event(id="e1", text="hello"))
    assert message.key == b"e1"
    assert from_message(Event, message, PLACE).key == ""


some_text = st.text(max_size=20)
words = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
labels = words.filter(lambda label: not set(label) & set(MARKS))  # they separate labels
sources = some_text.filter(lambda source: source != "/")  # stands for no source
times = st.integers(0, MAX_TIME_MS)
numbers = st.integers(0, 2**63 - 1)
shares = st.floats(0, 1)
records: st.SearchStrategy[TopicRecord] = st.one_of(
    st.builds(Event, id=st.text(min_size=1), text=words, key=some_text, source=sources, time_ms=times),
    st.builds(
        Answer,
        label=st.none() | some_text,
        score=shares,
        scores=st.lists(st.tuples(some_text, shares), max_size=3).map(tuple),
        weights_version=numbers,
        rollout_revision=numbers,
        event_time_ms=times,
        source=sources,
        time_ms=times,
    ),
    st.builds(
        Feedback,
        event_id=words,
        label=labels,
        source=sources,
        time_ms=times,
        receipt=some_text,
        event_source=st.none() | some_text,
    ),
    st.builds(
        Quarantined,
        source=sources,
        time_ms=times,
        answered=st.none() | some_text,
        event_source=st.none() | some_text,
    ),
    st.builds(DeadLetter, partition=numbers, offset=numbers, source=sources, time_ms=times),
)


@given(records)
def test_round_trip(record: TopicRecord) -> None:
    assert from_message(type(record), to_message(record), PLACE) == record
