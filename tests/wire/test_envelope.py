"""Tests records as messages: the bytes are stable, nothing is lost, and no input does harm."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.envelope import MAX_FIELD_BYTES, from_message, to_message
from wire.errors import BadMessage
from wire.message import Message, Place
from wire.records import (
    MAX_EVENT_BYTES,
    TOPIC_RECORDS,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    Quarantined,
    TopicRecord,
)
from wire.timestamps import MAX_TIME_MS

GOLDEN = Path(__file__).parent / "golden"
PLACE = Place(topic="events.v1", partition=3, offset=1042)

SAMPLES: tuple[TopicRecord, ...] = (
    Event(id="e-17", text="My card d\u00e9clined", key="customer-9", source="shop", time_ms=1_700_000_000_123),
    Answer(
        event_id="e-17",
        text="My card d\u00e9clined",
        label="card_declined",
        score=0.75,
        weights_version=12,
        arm="candidate",
        precision="w8c",
        rollout_revision=4,
        scores=(("card_declined", 0.75), ("refund", 0.25)),
        key="customer-9",
        source="replica-1",
        event_time_ms=1_700_000_000_123,
        time_ms=1_700_000_000_456,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
    ),
    Feedback(
        event_id="e-17",
        label="card_declined",
        key="customer-9",
        source="desk",
        time_ms=1_700_000_100_000,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
        approval="ffeeddccbbaa99887766554433221100",
        event_source="shop",
    ),
    Quarantined(
        reason="flip",
        event_id="e-17",
        label="card_declined",
        key="customer-9",
        source="desk",
        time_ms=1_700_000_100_000,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
        text="My card d\u00e9clined",
        answered="refund",
        event_source="shop",
    ),
    DeadLetter(
        reason="undecodable",
        detail="no JSON",
        topic="events.v1",
        partition=3,
        offset=1042,
        payload=b"\x00\xff{",
        source="replica-1",
        time_ms=1_700_000_000_789,
    ),
)

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
}

BEFORE_EVENT_SOURCE: dict[str, Any] = {"event_source": None}
BEFORE: dict[str, dict[type, dict[str, Any]]] = {
    "before_receipts": {
        Answer: {"receipt": ""},
        Feedback: {"receipt": "", "approval": "", **BEFORE_EVENT_SOURCE},
    },
    "before_event_source": {Feedback: BEFORE_EVENT_SOURCE, Quarantined: BEFORE_EVENT_SOURCE},
}
"""Defaults of the fields that a message of an earlier program does not have: receipts, and event sources of labels."""

names = pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)


def golden(record: TopicRecord, variant: str = "") -> Message:
    stored = json.loads((GOLDEN / f"{record.TYPE}{variant}.json").read_text())
    return Message(
        key=stored["key"].encode(),
        value=stored["value"].encode("latin-1"),
        headers=tuple((name, value.encode("latin-1")) for name, value in stored["headers"]),
    )


def plain(body: object, *, key: bytes | None = None) -> Message:
    return Message(key=key, value=json.dumps(body).encode(), timestamp_ms=5)


def reason_of(record_type: type[TopicRecord], message: Message) -> str:
    with pytest.raises(BadMessage) as caught:
        from_message(record_type, message, PLACE)
    return caught.value.reason


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
            assert read == msgspec.structs.replace(record, **defaults)


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
    """B5: after the broker has lost its log, the same offset is another event."""
    place = Place(topic="events.v1", partition=3, offset=1042, log="GqQ1WfZsQpKfWzBLm_4nyg")
    assert from_message(Event, plain({"text": "hello"}), place).id == "events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg"


def test_plain_json_with_an_id_keeps_it() -> None:
    event = from_message(Event, plain({"id": "e1", "text": "hello", "source": "shop", "time_ms": 7}), PLACE)
    assert event == Event(id="e1", text="hello", source="shop", time_ms=7)


def test_the_key_of_an_event_without_entity_is_its_id() -> None:
    message = to_message(Event(id="e1", text="hello"))
    assert message.key == b"e1"
    assert from_message(Event, message, PLACE).key == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{" + b" " * MAX_EVENT_BYTES, "oversized"),
        (b"hello", "undecodable"),
        (b'{"text": "\xff"}', "undecodable"),
        (b'{"text": "\\ud800"}', "undecodable"),
        (b'{"text": NaN}', "undecodable"),
        (b"[" * 100_000, "undecodable"),
        (b'["text"]', "wrong_schema"),
        (b"{}", "wrong_schema"),
        (b'{"text": 1}', "wrong_schema"),
        (b'{"text": null}', "wrong_schema"),
        (b'{"text": " \\t"}', "wrong_schema"),
        (b'{"text": "a", "id": 7}', "wrong_schema"),
        (b'{"text": "a", "key": null}', "wrong_schema"),
        (b'{"text": "a", "time_ms": -1}', "wrong_schema"),
        (b'{"text": "a", "time_ms": 1700000000000000000}', "wrong_schema"),
    ],
)
def test_what_is_no_event(body: bytes | None, reason: str) -> None:
    assert reason_of(Event, Message(key=None, value=body)) == reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("ce_type", b"lifelong.answer.v1"), "wrong_type"),
        (("ce_type", b"lifelong.event.v0"), "wrong_type"),
        (("ce_type", b"com.example.created"), "wrong_type"),
        (("ce_type", b""), "wrong_type"),
        (("ce_type", b"lifelong.event.v" + b"9" * 500), "wrong_type"),
        (("ce_type", b"lifelong.event.v" + b"9" * 5_000), "oversized"),
        (("ce_id", b"a" * (MAX_FIELD_BYTES + 1)), "oversized"),
        (("ce_source", b"\xff" * (MAX_FIELD_BYTES + 1)), "oversized"),
        (("ce_time", b"\x01" * (3 << 20)), "oversized"),
        (("ce_type", b"lifelong.event.v2"), "future_schema"),
        (("ce_specversion", b"2.0"), "future_schema"),
        (("ce_id", b"\xff"), "undecodable"),
        (("ce_time", b"yesterday"), "undecodable"),
        (("ce_time", b"2023-11-14T22:13:20"), "undecodable"),
        (("ce_time", b"1914-11-14T22:13:20Z"), "wrong_schema"),
    ],
)
def test_headers_that_are_refused(header: tuple[str, bytes], reason: str) -> None:
    assert reason_of(Event, Message(key=None, value=b'{"text": "a"}', headers=(header,))) == reason


@pytest.mark.parametrize("body", [{"event_id": "", "label": "x"}, {"event_id": "e", "label": " "}, {"label": "x"}])
def test_feedback_names_an_event_and_a_label(body: dict[str, str]) -> None:
    assert reason_of(Feedback, plain(body)) == "wrong_schema"


def test_a_plain_message_is_no_dead_letter() -> None:
    assert reason_of(DeadLetter, plain({"text": "hello"})) == "wrong_schema"


@pytest.mark.parametrize(
    ("record_type", "body"),
    [
        (Event, {"text": "a", "id": "x"}),
        (Event, {"text": "a", "key": "x"}),
        (Event, {"text": "a", "source": "x"}),
        (Feedback, {"event_id": "x", "label": "a"}),
        (Feedback, {"event_id": "a", "label": "x"}),
        (Feedback, {"event_id": "a", "label": "a", "receipt": "x"}),
    ],
)
def test_short_fields_are_bounded(record_type: type[TopicRecord], body: dict[str, str]) -> None:
    """B3: every field that becomes an id, a key or a header somewhere is short enough, in bytes."""
    long = {name: text.replace("x", "\u00e9" * (MAX_FIELD_BYTES // 2)) for name, text in body.items()}
    from_message(record_type, plain(long), PLACE)
    assert reason_of(record_type, plain({name: text + "\u00e9" for name, text in long.items()})) == "oversized"


def test_a_key_of_kafka_is_bounded() -> None:
    assert reason_of(Event, plain({"text": "a"}, key=b"k" * (MAX_FIELD_BYTES + 1))) == "oversized"


@pytest.mark.parametrize("header", [("ce_mood", b"\xff" * 5_000), ("trace", b"\xff"), ("ce_reason", b"\xff")])
def test_headers_that_are_not_ours_are_not_looked_at(header: tuple[str, bytes]) -> None:
    message = Message(key=None, value=b'{"text": "a"}', headers=(header,))
    assert from_message(Event, message, PLACE).text == "a"


@pytest.mark.parametrize(
    ("timestamp_ms", "time_ms"), [(-(2**63), 0), (-1, 0), (7, 7), (10**15, MAX_TIME_MS), (2**63 - 1, MAX_TIME_MS)]
)
def test_a_timestamp_of_kafka_becomes_the_nearest_time(timestamp_ms: int, time_ms: int) -> None:
    """B2: a producer may write any 64-bit number there."""
    message = Message(key=None, value=b'{"text": "a"}', timestamp_ms=timestamp_ms)
    assert from_message(Event, message, PLACE).time_ms == time_ms


def test_a_time_beyond_the_calendar_is_not_sent() -> None:
    with pytest.raises(ValueError, match="milliseconds since 1970"):
        to_message(Event(id="e", text="a", time_ms=MAX_TIME_MS + 1))


some_text = st.text(max_size=20)
words = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
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
        label=words,
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
