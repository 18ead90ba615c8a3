"""A message of Kafka, the place where it lies, and its value as a JSON object. `wire.envelope` makes records of them.

    value --object_of--> JSON itself, or what a schema registry's decoder makes of it (`wire.registry`)
    {"specversion": "1.0", "type": "...", "id": "7", "source": "/crm", "data": {...}} --unpacked--> attributes, data

The second is a CloudEvent in structured mode: one object with the attributes and the data. Senders choose the mode by
the header `content-type: application/cloudevents+json`. We read both modes and write the binary one.
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

MAX_SHOWN_CHARS = 60  # how much of what a client sent an error message repeats

REGISTRY_MAGIC: Final = b"\0"
"""The first byte of a value in the wire format of a schema registry (`wire.registry`), and of no JSON."""

Decode: TypeAlias = Callable[[bytes], dict[str, Any]]
"""Returns the object of a value. Raises BadMessage."""

CONTENT_TYPE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch"
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "partitionkey")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A record as Kafka carries it. `timestamp_ms` is the broker's, and only messages that were read have it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = 0

    def texts_of(self, names: frozenset[str], *, max_bytes: int) -> tuple[tuple[str, str], ...]:
        """Returns the headers with these names that are texts of at most `max_bytes` bytes; others are left out."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            if name in names and value is not None and len(value) <= max_bytes:
                with suppress(UnicodeDecodeError):
                    found[name] = value.decode()
        return tuple(found.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a message lies: `str(place)` is `events.v1/3/1042@GqQ1WfZsQpKfWzBLm_4nyg`.

    `log` is the id of the topic's log, so that no message of a topic that was recreated has the same place as one of
    the topic before it. It is empty where the broker does not tell.
    """

    topic: str
    partition: int
    offset: int
    log: str = ""

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        return f"{place}@{self.log}" if self.log else place


def shown(text: str) -> str:
    """Returns the beginning of what a client sent, with escapes, for an error message or a log."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}...")


def object_of(value: bytes | None, decode: Decode | None) -> dict[str, Any]:
    """Returns the object that a value is; `decode` reads those of a schema registry (None: there is none).

    Raises BadMessage, as `json_object` does.
    """
    if not value or not value.startswith(REGISTRY_MAGIC):
        return json_object(value)
    if decode is None:
        raise BadMessage("undecodable", "it was written with a schema registry: set bus.registry.url")
    return decode(value)


def json_object(value: bytes | None) -> dict[str, Any]:
    """Returns the JSON object that a value is. Raises BadMessage: empty, oversized, undecodable or wrong_schema."""
    if value is None or not value.strip():
        raise BadMessage("empty", "the message has no value")
    check_size(value)
    try:
        body = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise BadMessage("undecodable", f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadMessage("wrong_schema", f"a JSON {type(body).__name__}, expected an object")
    return body


def check_size(value: bytes) -> None:
    """Raises BadMessage for a value that is larger than what is read."""
    if len(value) > MAX_EVENT_BYTES and len(value) > (at_most := max_event_bytes()):
        raise BadMessage("oversized", f"the value has {len(value)} bytes, at most {at_most} are read")


def is_structured(content_type: str) -> bool:
    """Whether a content type is that of the structured mode. Raises BadMessage for a batch of events.

    >>> is_structured("application/cloudevents+json; charset=utf-8"), is_structured("application/json")
    (True, False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(BATCH):
        raise BadMessage("wrong_type", "a batch of CloudEvents: send each event as a message of its own")
    return kind == CONTENT_TYPE


def unpacked(event: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the attributes, named as the headers of the binary mode are, and the data, an object."""
    attributes: dict[str, str] = {}
    for name in ATTRIBUTES:
        value = event.get(name)
        if value is not None and not isinstance(value, str):
            raise BadMessage("wrong_schema", f"attribute {name} is a JSON {type(value).__name__}, expected a text")
        if value is not None:
            attributes[f"ce_{name}"] = value
    data = event.get("data")
    if "data_base64" in event:
        data = _decoded(event["data_base64"])
    if not isinstance(data, dict):
        raise BadMessage("wrong_schema", f"`data` is {shown(type(data).__name__)}, expected an object")
    return attributes, data


def _decoded(text: Any) -> Any:
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadMessage("undecodable", f"`data_base64` is no JSON in base64: {error}") from error
