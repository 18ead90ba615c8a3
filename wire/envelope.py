"""Records as Kafka messages: CloudEvents 1.0 in binary mode, JSON inside.

    record --to_message--> key, value, headers --Kafka--> from_message --> record, or BadMessage(reason, detail)

The attributes travel as `ce_` headers, the other fields as a JSON object. Plain JSON without headers is read too: what
is missing then comes from Kafka itself (the id from the place, the entity from the key, the time from the broker). A
dead letter carries its payload untouched as the value, and everything about it in headers, so that nothing inflates.

Whatever is read can be sent again: the value is bounded, and so is every field that becomes an id, a key or a header
somewhere. Headers that are not ours are not looked at.

Reasons to refuse a message, which never change their names: `empty`, `oversized` (the value, or one field of it),
`undecodable` (no JSON object, or a header that cannot be read), `wrong_schema` (a field is missing, blank or of another
type), `wrong_type` (another record), `future_schema` (a newer version of the record or of CloudEvents).

Rejected: structured mode (everything in one JSON object: a payload that is no JSON would have to be wrapped), and the
`cloudevents` package (it knows no Kafka key and no limits).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from wire.errors import BadMessage
from wire.records import MAX_EVENT_BYTES, TOPIC_RECORDS, DeadLetter, Event, Feedback, TopicRecord

R = TypeVar("R", bound=TopicRecord)

SPEC_VERSION = "1.0"
NO_SOURCE = "/"  # CloudEvents wants a source; this one is read back as ""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999, where RFC 3339 ends

MAX_FIELD_BYTES = 1 << 10
"""Longest id, key, source, label or other short field that is read, in bytes of UTF-8."""

MAX_DETAIL_CHARS = 500
"""Longest `detail` of a dead letter, in characters."""

MAX_DETAIL_BYTES = 4 * MAX_DETAIL_CHARS  # UTF-8 has at most 4 bytes for a character
MAX_DIGITS = 19  # of a 64-bit number
MAX_SHOWN_CHARS = 60  # how much of what a client sent a `detail` repeats

HEADER_FIELDS: dict[type, frozenset[str]] = {  # fields that are attributes, hence not in the value
    Event: frozenset({"id", "source", "time_ms"}),
}
ATTRIBUTES = frozenset({"source", "time_ms"})  # the same for every other record

COMMON_HEADERS = frozenset({"ce_specversion", "ce_source", "ce_type", "ce_time"})
ORIGIN_HEADERS = frozenset({"ce_origintopic", "ce_originpartition", "ce_originoffset"})
READ_HEADERS: dict[type, frozenset[str]] = {  # of every other record: the common ones
    Event: COMMON_HEADERS | {"ce_id"},
    DeadLetter: COMMON_HEADERS | ORIGIN_HEADERS | {"ce_reason", "ce_detail"},
}
HEADER_NAMES = {name.encode(): name for names in READ_HEADERS.values() for name in names}
"""Every header that is looked at, by its bytes."""

NOT_BLANK: dict[type, tuple[str, ...]] = {Event: ("text",), Feedback: ("event_id", "label")}
SHORT_FIELDS: dict[type, tuple[str, ...]] = {
    record: tuple(
        field.name
        for field in msgspec.structs.fields(record)
        if field.type in (str, str | None) and field.name not in ("text", "detail")
    )
    for record in TOPIC_RECORDS
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A record as Kafka carries it. `timestamp_ms` is the broker's and is only there on messages that were read."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a message lies: `str(place)` is `events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg`.

    `log` names the log, so that no other message has the same place after the topic was made anew. It is empty where
    the broker does not say.
    """

    topic: str
    partition: int
    offset: int
    log: str = ""

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{place}@{self.log}" if self.log else place


def to_message(record: TopicRecord) -> Message:
    """The message of `record`; equal records make equal bytes. ValueError where `time_ms` is no time."""
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": record.message_id,
        "ce_source": record.source if record.source else NO_SOURCE,
        "ce_type": record.TYPE,
    }
    if record.time_ms:
        headers["ce_time"] = _rfc3339(record.time_ms)
    if isinstance(record, DeadLetter):
        value = record.payload
        headers |= _refusal_headers(record)
    else:
        value = msgspec.json.encode(_body_of(record))
        headers["content-type"] = "application/json"
    return Message(
        key=record.entity.encode(),
        value=value,
        headers=tuple((name, text.encode()) for name, text in headers.items()),
    )


def from_message(record_type: type[R], message: Message, place: Place) -> R:
    """The record of type `record_type` in `message`, or BadMessage with one of the reasons above.

    >>> from_message(Event, Message(key=None, value=b'{"text": "hello"}'), Place(topic="t", partition=0, offset=7))
    Event(id='t/0/7', text='hello', key='', source='', time_ms=0)
    """
    attributes = _attributes(message, READ_HEADERS.get(record_type, COMMON_HEADERS))
    _check_type(record_type, attributes)
    if record_type is DeadLetter:
        return _convert(record_type, _dead_letter_fields(message, attributes))
    fields = _body(message.value) | _attribute_fields(record_type, attributes)
    if record_type is Event:
        _complete_event(fields, message, place)
    if "ce_type" not in attributes:
        fields.setdefault("time_ms", clamped_ms(message.timestamp_ms))
    return _convert(record_type, fields)


def clamped_ms(timestamp_ms: int) -> int:
    """A timestamp of Kafka, which may be any 64-bit number, as the nearest time that a record can carry."""
    return min(max(timestamp_ms, 0), MAX_TIME_MS)


def shown(text: str) -> str:
    """The beginning of what a client sent, with escapes, for a message or a log."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}...")


def _body_of(record: TopicRecord) -> dict[str, Any]:
    outside = HEADER_FIELDS.get(type(record), ATTRIBUTES)
    return {name: value for name, value in msgspec.structs.asdict(record).items() if name not in outside}


def _refusal_headers(letter: DeadLetter) -> dict[str, str]:
    return {
        "content-type": "application/octet-stream",
        "ce_reason": letter.reason,
        "ce_detail": letter.detail,
        "ce_origintopic": letter.topic,
        "ce_originpartition": str(letter.partition),
        "ce_originoffset": str(letter.offset),
    }


def _dead_letter_fields(message: Message, attributes: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "reason": attributes.get("ce_reason"),
        "detail": attributes.get("ce_detail"),
        "topic": attributes.get("ce_origintopic"),
        "payload": message.value if message.value else b"",
    }
    for name in ("partition", "offset"):
        text = attributes.get(f"ce_origin{name}", "")
        if not text.isdecimal() or len(text) > MAX_DIGITS:
            raise BadMessage("wrong_schema", f"ce_origin{name} is {shown(text)}, not a number")
        fields[name] = int(text)
    return fields | _attribute_fields(DeadLetter, attributes)


def _attributes(message: Message, names: frozenset[str]) -> dict[str, str]:
    attributes = {}
    for name, value in message.headers:
        if value is None or name not in names:
            continue
        _check_length(name, len(value), at_most=MAX_DETAIL_BYTES if name == "ce_detail" else MAX_FIELD_BYTES)
        try:
            attributes[name] = value.decode()
        except UnicodeDecodeError as error:
            raise BadMessage("undecodable", f"{name} is not UTF-8: {error.reason} at byte {error.start}") from error
    return attributes


def _check_length(name: str, num_bytes: int, *, at_most: int) -> None:
    if num_bytes > at_most:
        raise BadMessage("oversized", f"{name} has {num_bytes} bytes, at most {at_most} are read")


def _check_type(record_type: type[R], attributes: Mapping[str, str]) -> None:
    version = attributes.get("ce_specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise BadMessage("future_schema", f"ce_specversion is {shown(version)}, we read {SPEC_VERSION}")
    found = attributes.get("ce_type", record_type.TYPE)
    if found == record_type.TYPE:
        return
    name, _, number = found.rpartition(".v")
    our_name, _, our_number = record_type.TYPE.rpartition(".v")
    if name == our_name and number.isdecimal() and len(number) < 10 and int(number) > int(our_number):
        raise BadMessage("future_schema", f"ce_type is {shown(found)}, we read {record_type.TYPE}")
    raise BadMessage("wrong_type", f"ce_type is {shown(found)}, expected {record_type.TYPE}")


def _attribute_fields(record_type: type[R], attributes: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if record_type is Event and attributes.get("ce_id"):
        fields["id"] = attributes["ce_id"]
    if "ce_source" in attributes:
        fields["source"] = "" if attributes["ce_source"] == NO_SOURCE else attributes["ce_source"]
    if "ce_time" in attributes:
        fields["time_ms"] = _millis(attributes["ce_time"])
    return fields


def _body(value: bytes | None) -> dict[str, Any]:
    if value is None or not value.strip():
        raise BadMessage("empty", "the message has no value")
    if len(value) > MAX_EVENT_BYTES:
        raise BadMessage("oversized", f"the value has {len(value)} bytes, at most {MAX_EVENT_BYTES} are read")
    try:
        body = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise BadMessage("undecodable", f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadMessage("wrong_schema", f"a JSON {type(body).__name__}, expected an object")
    return body


def _complete_event(fields: dict[str, Any], message: Message, place: Place) -> None:
    """A client may leave the id and the entity to Kafka. We send the id as key where there is no entity."""
    if fields.get("id", "") == "":
        fields["id"] = str(place)
    if fields.get("key", "") == "" and message.key:
        key = message.key.decode(errors="replace")
        fields["key"] = "" if key == fields["id"] else key


def _convert(record_type: type[R], fields: Mapping[str, Any]) -> R:
    try:
        record = msgspec.convert(fields, record_type)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_schema", str(error)) from error
    for name in SHORT_FIELDS[record_type]:
        _check_length(f"`{name}`", _num_bytes(getattr(record, name)), at_most=MAX_FIELD_BYTES)
    for name in NOT_BLANK.get(record_type, ()):
        if not getattr(record, name).strip():
            raise BadMessage("wrong_schema", f"`{name}` is blank")
    if not 0 <= record.time_ms <= MAX_TIME_MS:
        raise BadMessage("wrong_schema", f"`time_ms` is {record.time_ms}, not milliseconds since 1970")
    return record


def _rfc3339(time_ms: int) -> str:
    if not 0 <= time_ms <= MAX_TIME_MS:
        raise ValueError(f"time_ms is {time_ms}; give milliseconds since 1970, up to the year 9999")
    time = EPOCH + timedelta(milliseconds=time_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _millis(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMessage("undecodable", f"ce_time is {shown(text)}, no time of RFC 3339") from error
    if time.tzinfo is None:
        raise BadMessage("undecodable", f"ce_time {shown(text)} has no time zone")
    return (time - EPOCH) // timedelta(milliseconds=1)


def _num_bytes(text: str | None) -> int:
    return 0 if text is None else len(text.encode())
