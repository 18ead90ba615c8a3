"""The value of a message as a JSON object: JSON itself, or what a schema registry's decoder makes of it."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.records import MAX_EVENT_BYTES

REGISTRY_MAGIC: Final = b"\0"
"""The first byte of a value in the wire format of a schema registry (`wire.registry`), and of no JSON."""

Decode: TypeAlias = Callable[[bytes], dict[str, Any]]
"""Returns the object of a value. Raises BadMessage."""


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
    if len(value) > MAX_EVENT_BYTES:
        raise BadMessage("oversized", f"the value has {len(value)} bytes, at most {MAX_EVENT_BYTES} are read")
