"""Tests which messages are refused, and which values are normalised: no input does harm."""

import pytest

from tests.wire.samples import PLACE, plain
from wire.envelope import MAX_FIELD_BYTES, from_message, to_message
from wire.errors import BadMessage
from wire.message import Message
from wire.records import MAX_EVENT_BYTES, DeadLetter, Event, Feedback, TopicRecord
from wire.timestamps import MAX_TIME_MS


def refusal_reason(record_type: type[TopicRecord], message: Message) -> str:
    with pytest.raises(BadMessage) as caught:
        from_message(record_type, message, PLACE)
    return caught.value.reason


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
def test_a_message_that_is_not_an_event_is_refused(body: bytes | None, reason: str) -> None:
    assert refusal_reason(Event, Message(key=None, value=body)) == reason


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
    assert refusal_reason(Event, Message(key=None, value=b'{"text": "a"}', headers=(header,))) == reason


@pytest.mark.parametrize("body", [{"event_id": "", "label": "x"}, {"event_id": "e", "label": " "}, {"label": "x"}])
def test_feedback_names_an_event_and_a_label(body: dict[str, str]) -> None:
    assert refusal_reason(Feedback, plain(body)) == "wrong_schema"


def test_a_plain_message_is_no_dead_letter() -> None:
    assert refusal_reason(DeadLetter, plain({"text": "hello"})) == "wrong_schema"


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
    """B3: every field that becomes an id, a key or a header is bounded, in bytes."""
    long = {name: text.replace("x", "\u00e9" * (MAX_FIELD_BYTES // 2)) for name, text in body.items()}
    from_message(record_type, plain(long), PLACE)
    assert refusal_reason(record_type, plain({name: text + "\u00e9" for name, text in long.items()})) == "oversized"


def test_a_key_of_kafka_is_bounded() -> None:
    assert refusal_reason(Event, plain({"text": "a"}, key=b"k" * (MAX_FIELD_BYTES + 1))) == "oversized"


@pytest.mark.parametrize("header", [("ce_mood", b"\xff" * 5_000), ("trace", b"\xff"), ("ce_reason", b"\xff")])
def test_foreign_headers_are_ignored(header: tuple[str, bytes]) -> None:
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
