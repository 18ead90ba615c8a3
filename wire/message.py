"""A Kafka message, its place in the log, and its value as a JSON object. `wire.envelope` turns messages into records.

    value --decode_object--> a JSON object, or the output of a schema registry's decoder (`wire.registry`)
    {"specversion": "1.0", "type": "...", "id": "7", "source": "/crm", "data": {...}}
        --unpack_structured--> attributes, data

The object above is a CloudEvent in structured mode: it contains both the attributes and the data. A sender chooses this
mode by the header `content-type: application/cloudevents+json`. In binary mode, the attributes are headers. Both modes
are read, and the binary mode is written.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.inputs import MAX_EVENT_BYTES, max_event_bytes

MAX_SHOWN_CHARS = 60
"""Longest part of a client's text that an error message repeats."""

REGISTRY_MAGIC: Final = b"\0"
"""The first byte of a value in the wire format of a schema registry (`wire.registry`). No JSON begins with it."""

Decode: TypeAlias = Callable[[bytes], dict[str, Any]]
"""Decodes the value of a message to a JSON object. Raises BadMessage."""

CONTENT_TYPE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch"
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "partitionkey")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A Kafka record. `timestamp_ms` is set by the broker, so a message to be sent has none."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = 0

    def text_headers(self, names: frozenset[str], *, max_bytes: int) -> tuple[tuple[str, str], ...]:
        """Returns the headers with these names whose values are UTF-8 of at most `max_bytes` bytes."""
        texts: dict[str, str] = {}
        for name, value in self.headers:
            if name in names and value is not None and len(value) <= max_bytes:
                with suppress(UnicodeDecodeError):
                    texts[name] = value.decode()
        return tuple(texts.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of a message in a topic, for example `events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg` as a string.

    `log` is the id of the topic, so that places differ if a topic was deleted and created again. It is empty if the
    broker has no topic ids.
    """

    topic: str
    partition: int
    offset: int
    log: str = ""

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{place}@{self.log}" if self.log else place


def quote_text(text: str) -> str:
    """Quotes a client's text for an error message or a log: escaped, and at most MAX_SHOWN_CHARS characters of it."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}...")


def decode_object(value: bytes | None, decode: Decode | None) -> dict[str, Any]:
    """Decodes the value of a message to an object. The value is JSON, or has a registered schema.

    `decode` decodes values with a registered schema (None: no schema registry is set). Raises BadMessage as
    `json_object` does.
    """
    if not value or not value.startswith(REGISTRY_MAGIC):
        return json_object(value)
    if decode is None:
        raise BadMessage("undecodable", "the value was written with a schema registry: set bus.registry.url")
    return decode(value)


def json_object(value: bytes | None) -> dict[str, Any]:
    """Parses a value as a JSON object. Raises BadMessage: empty, oversized, undecodable or wrong_schema."""
    if value is None or not value.strip():
        raise BadMessage("empty", "the message has no value")
    check_size(value)
    try:
        body = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise BadMessage("undecodable", f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadMessage("wrong_schema", f"the value is a JSON {type(body).__name__}, expected an object")
    return body


def check_size(value: bytes) -> None:
    """Raises BadMessage if a value is larger than the largest event that is read."""
    # The registry of inputs is asked only for values above the default limit.
    if len(value) > MAX_EVENT_BYTES and len(value) > (at_most := max_event_bytes()):
        raise BadMessage("oversized", f"the value has {len(value)} bytes, at most {at_most} are read")


def is_structured(content_type: str) -> bool:
    """Whether a content type means structured mode. Raises BadMessage for a batch of events.

    >>> is_structured("application/cloudevents+json; charset=utf-8"), is_structured("application/json")
    (True, False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(BATCH):
        raise BadMessage("wrong_type", "the message is a batch of CloudEvents: send one message for each event")
    return kind == CONTENT_TYPE


def unpack_structured(event: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Splits a structured CloudEvent into its attributes, under the header names of binary mode, and its data.

    Raises BadMessage if an attribute is not a text, or the data is not an object.
    """
    attributes: dict[str, str] = {}
    for name in ATTRIBUTES:
        value = event.get(name)
        if value is not None and not isinstance(value, str):
            raise BadMessage("wrong_schema", f"attribute {name} is a JSON {type(value).__name__}, expected a text")
        if value is not None:
            attributes[f"ce_{name}"] = value
    data = event.get("data")
    if "data_base64" in event:
        data = _decode_base64(event["data_base64"])
    if not isinstance(data, dict):
        raise BadMessage("wrong_schema", f"`data` is {quote_text(type(data).__name__)}, expected an object")
    return attributes, data


def _decode_base64(text: Any) -> Any:
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadMessage("undecodable", f"`data_base64` is not base64 of JSON: {error}") from error
