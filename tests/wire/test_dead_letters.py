"""Tests dead letters: every refused message and unsendable record becomes one that can be sent."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from tests.wire.samples import PLACE, SAMPLES, answer_to
from wire.dead_letters import (
    MAX_LETTER_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_SHORT_PAYLOAD_BYTES,
    refuse,
    refuse_event,
    unsendable,
)
from wire.envelope import (
    MAX_DETAIL_CHARS,
    MAX_FIELD_BYTES,
    ORIGIN_HEADERS,
    READ_HEADERS,
    from_message,
    to_message,
)
from wire.errors import BadMessage, SendFailed
from wire.message import Message
from wire.records import MAX_EVENT_BYTES, TOPIC_RECORDS, DeadLetter, Event, TopicRecord
from wire.timestamps import MAX_TIME_MS

REASONS = {"empty", "oversized", "undecodable", "wrong_schema", "wrong_type", "future_schema"}
TOO_LARGE = SendFailed("Answer 'e-17': too large", is_permanent=True)


def record_size(record: TopicRecord) -> int:
    """Returns the size of a batch with only the record's message, as the client library computes it."""
    message = to_message(record)
    headers = list(message.headers)
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, message.value, headers)
    return size


def refused(error: BadMessage, message: Message) -> DeadLetter:
    return refuse(error, message, PLACE, source="replica-1")


def test_a_dead_letter_carries_the_payload_untouched() -> None:
    payload = b"\xff" * (MAX_EVENT_BYTES + 1)
    letter = refused(BadMessage("oversized", "too long"), Message(key=b"k", value=payload, timestamp_ms=9))
    sent = to_message(letter)
    assert sent.value is payload
    assert from_message(DeadLetter, sent, PLACE) == letter
    assert letter.message_id == "events.v1/3/1042"


def test_the_dead_letter_of_an_empty_message_is_empty() -> None:
    letter = refused(BadMessage("empty", ""), Message(key=None, value=None))
    assert to_message(letter).value == b""
    assert from_message(DeadLetter, to_message(letter), PLACE) == letter


def test_a_payload_that_is_too_large_is_truncated_and_its_size_named() -> None:
    """B3: a record of a compressed batch may be larger than the largest message of our topics."""
    letter = refused(BadMessage("oversized", "d" * 2_000), Message(key=None, value=b"x" * (MAX_PAYLOAD_BYTES + 7)))
    assert len(letter.payload) == MAX_PAYLOAD_BYTES
    assert letter.detail.endswith(
        f"(the payload is cut: the first {MAX_PAYLOAD_BYTES} of {MAX_PAYLOAD_BYTES + 7} bytes)"
    )
    assert len(letter.detail) == MAX_DETAIL_CHARS
    assert record_size(letter) < MAX_LETTER_BYTES


def test_a_record_that_the_broker_refused() -> None:
    answer = answer_to("e-17", text="x" * MAX_SHORT_PAYLOAD_BYTES, time_ms=9)
    value = to_message(answer).value or b""
    letter = unsendable(answer, TOO_LARGE, PLACE, source="replica-1")
    assert letter == DeadLetter(
        reason="unsendable",
        detail=f"{TOO_LARGE} (the payload is cut: the first {MAX_SHORT_PAYLOAD_BYTES} of {len(value)} bytes)",
        topic=PLACE.topic,
        partition=PLACE.partition,
        offset=PLACE.offset,
        payload=value[:MAX_SHORT_PAYLOAD_BYTES],
        source="replica-1",
        time_ms=9,
    )


def test_a_refused_dead_letter_keeps_its_reason_and_its_origin() -> None:
    letter = refused(BadMessage("oversized", "too long"), Message(key=None, value=b"x" * MAX_EVENT_BYTES))
    other = PLACE.__class__(topic="deadletter.v1", partition=0, offset=0)
    short = unsendable(letter, TOO_LARGE, other, source="replica-2")
    assert (short.reason, short.message_id) == ("oversized", letter.message_id)
    assert short.detail.startswith("too long (the payload is cut")


@pytest.mark.parametrize(
    "record",
    [
        Event(id="e", text="\ud800"),
        Event(id="\ud800" * 5_000, text="a", time_ms=-5),
        Event(id="e", text="a", time_ms=MAX_TIME_MS + 1),
        Event(id="e", text="a", source="s" * (9 << 20)),
        Event(id="e", text=5),  # type: ignore[arg-type]
        Event(id=None, text="a"),  # type: ignore[arg-type]
    ],
    ids=["surrogate", "surrogates", "time", "source", "number", "nothing"],
)
def test_a_record_that_cannot_be_encoded_has_a_dead_letter(record: TopicRecord) -> None:
    """B2: a record with any encoding error has a dead letter that can be sent."""
    letter = unsendable(record, SendFailed("\ud800" * 5_000, is_permanent=True), PLACE, source="\ud800" * 5_000)
    assert record_size(letter) < MAX_SHORT_PAYLOAD_BYTES + (16 << 10)
    assert from_message(DeadLetter, to_message(letter), PLACE) == letter


short = st.integers(0, MAX_FIELD_BYTES + 2).map(lambda size: b"a" * size)
values = (
    st.binary(max_size=30)
    | short
    | st.text(max_size=30).map(str.encode)
    | st.sampled_from([record.TYPE.encode() for record in TOPIC_RECORDS])
    | st.sampled_from([b"\x01" * (3 << 20), b"9" * 1_000, b"/", b"2023-11-14T22:13:20.123Z"])
)
names = st.sampled_from(sorted(ORIGIN_HEADERS | READ_HEADERS[Event] | READ_HEADERS[DeadLetter])) | st.text(max_size=9)
texts = st.text(max_size=20) | st.integers(MAX_FIELD_BYTES - 2, MAX_FIELD_BYTES + 2).map(lambda size: "b" * size)
fields = st.sampled_from(["id", "text", "key", "source", "time_ms", "event_id", "label", "receipt", "x"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
bodies = (
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner))
    .map(lambda body: json.dumps(body).encode())
    .flatmap(lambda body: st.sampled_from([body, body + b" " * (MAX_EVENT_BYTES - len(body)), body * 3]))
)
payloads = (
    st.none()
    | st.binary(max_size=200)
    | bodies
    | st.sampled_from([to_message(record).value for record in SAMPLES])
    | st.sampled_from([MAX_EVENT_BYTES + 1, MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES + 1]).map(lambda size: b"{" * size)
)


@given(
    record_type=st.sampled_from(TOPIC_RECORDS),
    key=st.none() | st.binary(max_size=8) | short,
    value=payloads,
    headers=st.lists(st.tuples(names, st.none() | values), max_size=4).map(tuple),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
)
@settings(max_examples=300)
@example(Event, b"\xed\xa0\x80", b'{"text": "a"}', (), 0)
@example(Event, None, b'{"text": "a"}', (), 10**15)
@example(Event, None, b'{"text": "a"}', (("ce_id", b"a" * (3 << 20)),), 0)
@example(Event, None, b'{"text": "a"}', (("ce_time", b"\x01" * (3 << 20)),), 0)
@example(DeadLetter, None, b"", (("ce_reason", b"\x00"), ("ce_originoffset", b"9" * 1_000)), 0)
def test_anything_is_a_record_or_a_letter_that_can_be_sent(
    record_type: type[TopicRecord],
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    timestamp_ms: int,
) -> None:
    """B2, B3: every message that is read becomes a record that can be sent."""
    message = Message(key=key, value=value, headers=headers, timestamp_ms=timestamp_ms)
    try:
        record = from_message(record_type, message, PLACE)
        assert record_size(record) < 2 * MAX_EVENT_BYTES or isinstance(record, DeadLetter)
    except BadMessage as error:
        assert error.reason in REASONS
        record = refused(error, message)
        assert len(record.detail) <= MAX_DETAIL_CHARS
    if not isinstance(record, DeadLetter) or record.payload is not value:
        assert record_size(record) < MAX_LETTER_BYTES
    if record.source != "/":  # which stands for none
        assert from_message(type(record), to_message(record), PLACE) == record
    short = unsendable(record, TOO_LARGE, PLACE, source="replica-1")
    assert record_size(short) < MAX_SHORT_PAYLOAD_BYTES + (16 << 10)


def test_an_event_without_an_answer_is_the_payload_of_its_dead_letter() -> None:
    event = Event(id="a", text="hello", key="k", source="shop", time_ms=5)
    letter = refuse_event("model_failed", "x" * 2 * MAX_DETAIL_CHARS, event, PLACE)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        "model_failed",
        PLACE.topic,
        PLACE.partition,
        PLACE.offset,
    )
    assert (letter.source, letter.time_ms) == ("shop", 5)
    assert json.loads(letter.payload)["text"] == "hello"
    assert len(letter.detail) <= MAX_DETAIL_CHARS
