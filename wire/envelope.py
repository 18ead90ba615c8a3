"""Records as Kafka messages: CloudEvents 1.0 in binary mode, JSON inside.

    record --to_message--> key, value, headers --Kafka--> from_message --> record, or BadMessage(reason, detail)

The attributes travel as `ce_` headers, the other fields as a JSON object. Plain JSON without headers is accepted too:
then the id comes from the message's place, the entity from its key, and the time from the broker. A dead letter carries
its payload unchanged as the value and everything else in headers, so the payload does not grow by an encoding.

A message in structured mode (`wire.message`) is read as well. If a topic is mapped (`wire.mapping`), a message of any
type that is not ours is one of the map's; the map's fields win over the attributes.

Every record that is read can be sent again, because the value is bounded, and so is every field that becomes an id, a
key or a header somewhere (`check_fields`). Headers of other programs are ignored.

A message is refused for one of these reasons, whose names are stable: `empty`, `oversized` (the value, or one field of
it), `undecodable` (no JSON object, or a header that cannot be read), `wrong_schema` (a field is missing, blank or of
another type), `wrong_type` (another record), `future_schema` (a newer version of the record or of CloudEvents).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from wire.errors import BadMessage
from wire.inputs import problem_of, problem_of_content
from wire.kinds import ANSWER_FIELDS, LABEL_FIELDS, problem_of_label
from wire.message import Decode, Message, Place, is_structured, object_of, shown, unpacked
from wire.records import TOPIC_RECORDS, Answer, DeadLetter, Event, Feedback, Quarantined, TopicRecord
from wire.timestamps import clamped_ms, from_rfc3339, is_time, to_rfc3339

if TYPE_CHECKING:
    from wire.mapping import FieldMap  # with pydantic, which clients need not load


R = TypeVar("R", bound=TopicRecord)

SPEC_VERSION = "1.0"
NO_SOURCE = "/"  # CloudEvents requires a source; this one is read back as ""

MAX_DETAIL_CHARS = 500
"""Longest `detail` of a dead letter, in characters."""

MAX_DETAIL_BYTES = 4 * MAX_DETAIL_CHARS  # UTF-8 has at most 4 bytes for a character
MAX_DIGITS = 19  # of a 64-bit number

HEADER_FIELDS: dict[type, frozenset[str]] = {  # fields that travel as headers and not in the value
    Event: frozenset({"id", "source", "time_ms", "headers"}),
}
ATTRIBUTES = frozenset({"source", "time_ms", "headers"})  # the same for the records that are not listed
OMITTED = frozenset({"features", "parts", "replaces", "task", "tasks"})  # fields that a value lacks if they are empty
UNSAID = frozenset({*LABEL_FIELDS, *ANSWER_FIELDS})  # the same if they are None

COMMON_HEADERS = frozenset({"ce_specversion", "ce_source", "ce_type", "ce_time", "content-type"})
ORIGIN_HEADERS = frozenset({"ce_origintopic", "ce_originpartition", "ce_originoffset"})
READ_HEADERS: dict[type, frozenset[str]] = {  # records that are not listed have the common headers
    Event: COMMON_HEADERS | {"ce_id"},
    DeadLetter: COMMON_HEADERS | ORIGIN_HEADERS | {"ce_reason", "ce_detail"},
}

MAX_FIELD_BYTES = 1 << 10
"""Longest id, key, source, label or other short field that is read, in bytes of UTF-8."""


def to_message(record: TopicRecord, further: dict[str, Any] | None = None) -> Message:
    """Returns the message of `record`, with `further` fields in its JSON object; equal records give equal bytes.

    Raises ValueError where `time_ms` is no time.
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
        value = msgspec.json.encode(_body_of(record) | (further or {}))
        headers["content-type"] = "application/json"
    if isinstance(record, Event | Answer):
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
    """Returns the record of type `record_type` in `message`. Raises BadMessage with one of the reasons above.

    `foreign` is the map of the topic, where it has one. An event, or an answer, keeps the headers whose names are in
    `passed_on`. `decode` reads values in the wire format of a schema registry (None: there is none).

    >>> from_message(Event, Message(key=None, value=b'{"text": "hello"}'), Place(topic="t", partition=0, offset=7))
    Event(id='t/0/7', text='hello', key='', source='', time_ms=0, headers=(), features={}, parts=(), tasks=())
    """
    attributes = _attributes(message, READ_HEADERS.get(record_type, COMMON_HEADERS))
    if record_type is DeadLetter:
        _check_type(record_type, attributes)
        return record_of(record_type, _dead_letter_fields(message, attributes))
    body = object_of(message.value, decode)
    if is_structured(attributes.get("content-type", "")):
        inner, body = unpacked(body)
        attributes |= inner
    is_mapped = foreign is not None and attributes.get("ce_type") != record_type.TYPE
    _check_type(record_type, attributes, is_mapped=is_mapped)
    if foreign is not None and is_mapped:
        fields = _attribute_fields(record_type, attributes) | foreign(body)
    else:
        fields = body | _attribute_fields(record_type, attributes)
    fields.pop("headers", None)  # no client sets those of an answer by the JSON object
    if record_type is Event:
        _complete_event(fields, message, place)
    if passed_on:
        fields["headers"] = message.texts_of(passed_on, max_bytes=MAX_FIELD_BYTES)
    if "ce_type" not in attributes or is_mapped:
        fields.setdefault("time_ms", clamped_ms(message.timestamp_ms))
    return record_of(record_type, fields)


def _body_of(record: TopicRecord) -> dict[str, Any]:
    in_headers = HEADER_FIELDS.get(type(record), ATTRIBUTES)
    fields = msgspec.structs.asdict(record).items()
    body: dict[str, Any] = {}
    for name, value in fields:
        # A newer field that says nothing is left out: messages without it keep their bytes.
        says_nothing = (name in OMITTED and not value) or (name in UNSAID and value is None)
        if name not in in_headers and not says_nothing:
            body[name] = value
    return body


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
        check_length(name, len(value), at_most=MAX_DETAIL_BYTES if name == "ce_detail" else MAX_FIELD_BYTES)
        try:
            attributes[name] = value.decode()
        except UnicodeDecodeError as error:
            raise BadMessage("undecodable", f"{name} is not UTF-8: {error.reason} at byte {error.start}") from error
    return attributes


def _check_type(record_type: type[R], attributes: Mapping[str, str], *, is_mapped: bool = False) -> None:
    version = attributes.get("ce_specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise BadMessage("future_schema", f"ce_specversion is {shown(version)}, we read {SPEC_VERSION}")
    type_name = attributes.get("ce_type", record_type.TYPE)
    if type_name == record_type.TYPE or is_mapped:
        return
    name, _, number = type_name.rpartition(".v")
    our_name, _, our_number = record_type.TYPE.rpartition(".v")
    if name == our_name and number.isdecimal() and len(number) < 10 and int(number) > int(our_number):
        raise BadMessage("future_schema", f"ce_type is {shown(type_name)}, we read {record_type.TYPE}")
    raise BadMessage("wrong_type", f"ce_type is {shown(type_name)}, expected {record_type.TYPE}")


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
    """Fills in the id and the entity, which a client may leave out: the id is the place, the entity is Kafka's key.

    Our own events without an entity have their id as key, so a key that is the id names no entity.
    """
    if fields.get("id", "") == "":
        fields["id"] = str(place)
    if fields.get("key", "") == "" and message.key:
        key = message.key.decode(errors="replace")
        fields["key"] = "" if key == fields["id"] else key


def record_of(record_type: type[R], fields: Mapping[str, Any]) -> R:
    """Returns the record with these fields, within its bounds. Raises BadMessage: wrong_schema or oversized."""
    try:
        record = msgspec.convert(fields, record_type)
    except msgspec.ValidationError as error:
        raise BadMessage("wrong_schema", str(error)) from error
    check_fields(record)
    return record


def _short_fields(record: type[TopicRecord]) -> tuple[str, ...]:
    """Returns the names of the text fields that are bounded by MAX_FIELD_BYTES."""
    texts = [field.name for field in msgspec.structs.fields(record) if field.type in (str, str | None)]
    return tuple(name for name in texts if name not in ("text", "detail", "answered"))


SHORT_FIELDS: dict[type, tuple[str, ...]] = {record: _short_fields(record) for record in TOPIC_RECORDS}


def check_fields(record: TopicRecord) -> None:
    """Raises BadMessage, with the field, where a value of `record` is too long, blank, or no time."""
    for name in SHORT_FIELDS[type(record)]:
        text = getattr(record, name)
        if text:
            check_length(f"`{name}`", len(text.encode()), at_most=MAX_FIELD_BYTES)
    if isinstance(record, Answer | Feedback | Quarantined):
        for label in record.labels or ():
            check_length("a name in `labels`", len(label.encode()), at_most=MAX_FIELD_BYTES)
    if isinstance(record, Feedback | Quarantined) and record.target is not None:
        check_length("`target`", len(msgspec.json.encode(record.target)), at_most=MAX_FIELD_BYTES)
    if problem := _problem_of(record):
        raise BadMessage("wrong_schema", problem)
    if not is_time(record.time_ms):
        raise BadMessage("wrong_schema", f"`time_ms` is {record.time_ms}, not milliseconds since 1970")


def check_length(name: str, num_bytes: int, *, at_most: int) -> None:
    """Raises BadMessage where a value has more bytes than are read."""
    if num_bytes > at_most:
        raise BadMessage("oversized", f"{name} has {num_bytes} bytes, at most {at_most} are read")


def _problem_of(record: TopicRecord) -> str:
    if isinstance(record, Event):
        return problem_of_content(record.text, record.features, record.parts)
    if isinstance(record, Feedback):
        if not record.event_id.strip():
            return "`event_id` is blank"
        if problem := problem_of_label(record):
            return problem
    return problem_of(record.features, record.parts) if isinstance(record, Answer | Feedback | Quarantined) else ""
