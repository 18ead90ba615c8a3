"""CloudEvents in structured mode: one JSON object with the attributes and the data.

    {"specversion": "1.0", "type": "...", "id": "7", "source": "/crm", "data": {...}} --unpacked--> attributes, data

Senders choose the mode by the header `content-type: application/cloudevents+json`. We read both modes and write the
binary one. Rejected: the `cloudevents` package (it has neither a Kafka key nor limits, and this is a page).
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from wire.errors import BadMessage
from wire.message import shown

CONTENT_TYPE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch"
ATTRIBUTES = ("specversion", "id", "source", "type", "time", "partitionkey")


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
