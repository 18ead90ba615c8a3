"""Records as Kafka messages: CloudEvents 1.0 in binary mode, JSON inside.

    record --to_message--> key, value, headers --Kafka--> from_message --> record, or BadMessage(reason, detail)

The attributes of CloudEvents are sent as `ce_` headers, and the other fields of a record as a JSON object. Plain JSON
without headers is accepted, too: then the id is the place of the message in the log, the entity is the message's key,
and the time is the broker's. The value of a dead letter is the unchanged payload, and everything else is in headers, so
no encoding makes the payload larger.

The value of an event may also be a file that an input reads (`wire.inputs.FileCodec`), such as a picture. Then the
header `content-type` names its type.

A message in structured mode (`wire.message`) is read as well. In a mapped topic (`wire.mapping`), the map is applied to
every message that is not one of our own records. Its fields take precedence over the attributes.

The size of a value is bounded, and so is every field that becomes an id, a key or a header (`check_fields`). So every
record that was read can be sent again. Headers of other programs are ignored.

A message is refused for one of these reasons. Their names are stable:

- `empty`: the message has no value.
- `oversized`: the value or one of its fields is too long.
- `undecodable`: the value is not JSON, or a header is not UTF-8.
- `wrong_schema`: the value is not an object, or a field is missing, blank, or of another type.
- `wrong_type`: the message holds another record.
- `future_schema`: the message has a newer version of the record or of CloudEvents.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from wire.errors import BadMessage
from wire.inputs import find_problem, max_event_bytes, part_of_file, problem_of_content
from wire.kinds import ANSWER_FIELDS, LABEL_FIELDS, problem_of_label
from wire.message import Decode, Message, Place, decode_object, is_structured, quote_text, unpack_structured
from wire.records import TOPIC_RECORDS, Answer, DeadLetter, Event, Feedback, Quarantined, TopicRecord
from wire.timestamps import clamped_ms, from_rfc3339, is_time, to_rfc3339

if TYPE_CHECKING:
    # Imports pydantic, which clients do not need.
    from wire.mapping import FieldMap


R = TypeVar("R", bound=TopicRecord)

SPEC_VERSION = "1.0"

NO_SOURCE = "/"
"""The `ce_source` of a record without a source, because CloudEvents requires one. It is read back as ""."""

MAX_DETAIL_CHARS = 500
"""Longest `detail` of a dead letter, in characters."""

MAX_DETAIL_BYTES = 4 * MAX_DETAIL_CHARS
"""The same in bytes: a character has at most 4 bytes in UTF-8."""

MAX_DIGITS = 19
"""Decimal digits of the largest signed 64-bit integer."""

HEADER_FIELDS: dict[type, frozenset[str]] = {
    Event: frozenset({"id", "source", "time_ms", "headers"}),
}
"""The fields of a record that are sent as headers and not in the value, by record. For other records, they are
ATTRIBUTES."""

ATTRIBUTES = frozenset({"source", "time_ms", "headers"})

OMITTED_IF_EMPTY = frozenset({"features", "parts", "replaces", "task", "tasks"})
OMITTED_IF_NONE = frozenset({*LABEL_FIELDS, *ANSWER_FIELDS})

COMMON_HEADERS = frozenset({"ce_specversion", "ce_source", "ce_type", "ce_time", "content-type"})
ORIGIN_HEADERS = frozenset({"ce_origintopic", "ce_originpartition", "ce_originoffset"})
READ_HEADERS: dict[type, frozenset[str]] = {
    Event: COMMON_HEADERS | {"ce_id"},
    DeadLetter: COMMON_HEADERS | ORIGIN_HEADERS | {"ce_reason", "ce_detail"},
}
"""The headers that are read from a message, by record. For other records, they are COMMON_HEADERS."""

JSON_TYPES = ("application/json", "application/cloudevents")
"""The beginnings of the content types of messages in JSON."""

MAX_FIELD_BYTES = 1 << 10
"""Longest id, key, source, label or other short field that is read, in bytes of UTF-8."""


def to_message(record: TopicRecord, further: dict[str, Any] | None = None) -> Message:
    """Returns the message of `record`. Equal records give equal bytes.

    `further` are additional fields of its JSON object. Raises ValueError if `time_ms` is not a valid time.
    """
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": record.message_id,
        "ce_source": record.source if record.source else NO_SOURCE,
        "ce_type": record.TYPE,
    }
    if record.time_ms:
        headers["ce_time"] = to_rfc3339(record.time_ms)
    if isinstance(record, DeadLetter):
        value = record.payload
        headers |= _refusal_headers(record)
    else:
        value = msgspec.json.encode(_json_fields(record) | (further or {}))
        headers["content-type"] = "application/json"
    if isinstance(record, Event | Answer):
        # Copied headers must not replace our own.
        headers = dict(record.headers) | headers
    return Message(
        key=record.entity.encode(),
        value=value,
        headers=tuple((name, text.encode()) for name, text in headers.items()),
    )


def from_message(
    record_type: type[R],
    message: Message,
    place: Place,
    *,
    foreign: "FieldMap | None" = None,
    passed_on: frozenset[str] = frozenset(),
    decode: Decode | None = None,
) -> R:
    """Parses `message` as a record of type `record_type`. Raises BadMessage with one of the reasons above.

    - `foreign`: the map of the topic, if it is mapped.
    - `passed_on`: the names of the headers that an event or an answer keeps.
    - `decode`: decodes values in the wire format of a schema registry (None: no registry is set).

    >>> from_message(Event, Message(key=None, value=b'{"text": "hello"}'), Place(topic="t", partition=0, offset=7))
    Event(id='t/0/7', text='hello', key='', source='', time_ms=0, headers=(), features={}, parts=(), tasks=())
    """
    attributes = _attributes(message, READ_HEADERS.get(record_type, COMMON_HEADERS))
    if record_type is DeadLetter:
        _check_type(record_type, attributes)
        return build_record(record_type, _dead_letter_fields(message, attributes))
    content_type = attributes.get("content-type", "")
    body: dict[str, Any] | None = None
    # Most messages have JSON's content type or none, so the inputs are not asked.
    if record_type is Event and foreign is None and content_type and not content_type.startswith(JSON_TYPES):
        body = _file_fields(message.value, content_type)
    if body is None:
        body = decode_object(message.value, decode)
        if is_structured(content_type):
            inner, body = unpack_structured(body)
            attributes |= inner
    # Our own messages are read in a mapped topic, too.
    is_mapped = foreign is not None and attributes.get("ce_type") != record_type.TYPE
    _check_type(record_type, attributes, is_mapped=is_mapped)
    if foreign is not None and is_mapped:
        fields = _attribute_fields(record_type, attributes) | foreign(body)
    else:
        fields = body | _attribute_fields(record_type, attributes)
    # A client must not set the headers of an answer by a field of the JSON object.
    fields.pop("headers", None)
    if record_type is Event:
        _complete_event(fields, message, place)
    if passed_on:
        fields["headers"] = message.text_headers(passed_on, max_bytes=MAX_FIELD_BYTES)
    # Our own records have the time of their event. For other messages, the broker's time is the best one.
    if "ce_type" not in attributes or is_mapped:
        fields.setdefault("time_ms", clamped_ms(message.timestamp_ms))
    return build_record(record_type, fields)


def _json_fields(record: TopicRecord) -> dict[str, Any]:
    """Returns the fields of a record that its message contains as a JSON object."""
    in_headers = HEADER_FIELDS.get(type(record), ATTRIBUTES)
    body: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(record).items():
        # Fields that older programs do not know are omitted if they are unset, so that such messages keep their bytes.
        is_omitted = (name in OMITTED_IF_EMPTY and not value) or (name in OMITTED_IF_NONE and value is None)
        if name not in in_headers and not is_omitted:
            body[name] = value
    return body


def _refusal_headers(dead_letter: DeadLetter) -> dict[str, str]:
    return {
        "content-type": "application/octet-stream",
        "ce_reason": dead_letter.reason,
        "ce_detail": dead_letter.detail,
        "ce_origintopic": dead_letter.topic,
        "ce_originpartition": str(dead_letter.partition),
        "ce_originoffset": str(dead_letter.offset),
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
            raise BadMessage("wrong_schema", f"ce_origin{name} is {quote_text(text)}, expected a number")
        fields[name] = int(text)
    return fields | _attribute_fields(DeadLetter, attributes)


def _attributes(message: Message, names: frozenset[str]) -> dict[str, str]:
    attributes = {}
    for name, value in message.headers:
        if value is None or name not in names:
            continue
        if len(value) > MAX_FIELD_BYTES:
            check_length(name, len(value), at_most=MAX_DETAIL_BYTES if name == "ce_detail" else MAX_FIELD_BYTES)
        try:
            attributes[name] = value.decode()
        except UnicodeDecodeError as error:
            raise BadMessage("undecodable", f"{name} is not UTF-8: {error.reason} at byte {error.start}") from error
    return attributes


def _check_type(record_type: type[R], attributes: Mapping[str, str], *, is_mapped: bool = False) -> None:
    version = attributes.get("ce_specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise BadMessage("future_schema", f"ce_specversion is {quote_text(version)}, we read {SPEC_VERSION}")
    type_name = attributes.get("ce_type", record_type.TYPE)
    if type_name == record_type.TYPE or is_mapped:
        return
    name, _, number = type_name.rpartition(".v")
    our_name, _, our_number = record_type.TYPE.rpartition(".v")
    if name == our_name and number.isdecimal() and len(number) < 10 and int(number) > int(our_number):
        raise BadMessage("future_schema", f"ce_type is {quote_text(type_name)}, we read {record_type.TYPE}")
    raise BadMessage("wrong_type", f"ce_type is {quote_text(type_name)}, expected {record_type.TYPE}")


def _file_fields(value: bytes | None, content_type: str) -> dict[str, Any] | None:
    """Returns the fields of an event whose message is a file of an input; None if the message is of another type."""
    if not value:
        return None
    part = part_of_file(value, content_type)
    if part is None:
        return None
    # The event is sent again with the file in base64, beside its other fields.
    check_length("the file in base64", 4 * len(value) // 3, at_most=max_event_bytes() - MAX_FIELD_BYTES)
    return {"parts": [part]}


def _attribute_fields(record_type: type[R], attributes: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if record_type is Event and attributes.get("ce_id"):
        fields["id"] = attributes["ce_id"]
    if "ce_source" in attributes:
        fields["source"] = "" if attributes["ce_source"] == NO_SOURCE else attributes["ce_source"]
    if "ce_time" in attributes:
        fields["time_ms"] = from_rfc3339(attributes["ce_time"])
    return fields


def _complete_event(fields: dict[str, Any], message: Message, place: Place) -> None:
    """Sets the id to the message's place, and the entity to the message's key, if the client has left them out."""
    if fields.get("id", "") == "":
        fields["id"] = str(place)
    if fields.get("key", "") == "" and message.key:
        key = message.key.decode(errors="replace")
        # `to_message` uses the id as the key of an event without an entity, so such a key does not name an entity.
        fields["key"] = "" if key == fields["id"] else key


def build_record(record_type: type[R], fields: Mapping[str, Any]) -> R:
    """Returns the record with these fields after checking them. Raises BadMessage: wrong_schema or oversized."""
    try:
        record = msgspec.convert(fields, record_type)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_schema", str(error)) from error
    check_fields(record)
    return record


def _short_fields(record: type[TopicRecord]) -> tuple[str, ...]:
    """Returns the names of the text fields whose values have at most MAX_FIELD_BYTES bytes."""
    texts = [field.name for field in msgspec.structs.fields(record) if field.type in (str, str | None)]
    return tuple(name for name in texts if name not in ("text", "detail", "answered"))


SHORT_FIELDS: dict[type, tuple[str, ...]] = {record: _short_fields(record) for record in TOPIC_RECORDS}


def check_fields(record: TopicRecord) -> None:
    """Raises BadMessage, which names the field, if a value of `record` is too long or invalid."""
    for name in SHORT_FIELDS[type(record)]:
        text = getattr(record, name)
        # A character has at most four bytes, so only a longer text has to be encoded.
        if text is not None and 4 * len(text) > MAX_FIELD_BYTES:
            check_length(f"`{name}`", len(text.encode()), at_most=MAX_FIELD_BYTES)
    if isinstance(record, Answer | Feedback | Quarantined):
        for label in record.labels or ():
            if 4 * len(label) > MAX_FIELD_BYTES:
                check_length("a label in `labels`", len(label.encode()), at_most=MAX_FIELD_BYTES)
    if isinstance(record, Feedback | Quarantined) and record.target is not None:
        check_length("`target`", len(msgspec.json.encode(record.target)), at_most=MAX_FIELD_BYTES)
    problem = ""
    if isinstance(record, Feedback):
        problem = problem_of_label(record) if record.event_id.strip() else "`event_id` is blank"
    if isinstance(record, Event):
        problem = problem_of_content(record.text, record.features, record.parts)
    elif not problem and isinstance(record, Answer | Feedback | Quarantined):
        problem = find_problem(record.features, record.parts)
    if problem:
        raise BadMessage("wrong_schema", problem)
    if not is_time(record.time_ms):
        raise BadMessage("wrong_schema", f"`time_ms` is {record.time_ms}, expected milliseconds since 1970")


def check_length(name: str, num_bytes: int, *, at_most: int) -> None:
    """Raises BadMessage if a value has more than `at_most` bytes."""
    if num_bytes > at_most:
        raise BadMessage("oversized", f"{name} has {num_bytes} bytes, at most {at_most} are read")
