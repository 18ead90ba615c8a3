"""The AsyncAPI 3 document of the topics, made of their records: what is sent, by whom, and in which form.

    record --msgspec--> JSON Schema, less the fields that travel as headers --> message --> channel, operation

`docs/asyncapi.yaml` is this document with the default names; `lifelong topics describe` has those of the settings.
"""

from importlib.metadata import version
from typing import Any, Final

from wire.envelope import ATTRIBUTES, COMMON_HEADERS, HEADER_FIELDS, READ_HEADERS, SPEC_VERSION
from wire.records import (
    TOPIC_RECORDS,
    AdminAction,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    Quarantined,
    TopicRecord,
    topic_name,
)
from wire.records.schemas import components_of

REF: Final = "#/components/schemas/{name}"

PURPOSES: Final = {
    Event: ("receive", "A text to classify, from any producer."),
    Answer: ("send", "What the model says of an event, with a receipt for its label."),
    Feedback: ("receive", "The label of an event, from any labeller."),
    DeadLetter: ("send", "A message that was refused, unchanged, with the reason."),
    Quarantined: ("send", "A label that was not believed, until an operator releases it."),
    AdminAction: ("send", "What an operator changed by the page, each with the code of the record before."),
}
"""What the service does with the records of each topic, and what they are for."""


def document_of(prefix: str = "") -> dict[str, Any]:
    """Returns the document; `prefix` is before the name of each topic (`bus.prefix`)."""
    schemas = components_of(TOPIC_RECORDS, REF)
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for record in TOPIC_RECORDS:
        name = record.__name__
        action, summary = PURPOSES[record]
        channel = record.TOPIC.partition(".")[0]
        _drop_headers(record, schemas[name])
        channels[channel] = {
            "address": topic_name(prefix, record),
            "description": summary,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
        messages[name] = _message_of(record)
    del schemas[DeadLetter.__name__]  # its value is the refused message itself, of any form
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lifelong",
            "version": version("lifelong"),
            "description": "The topics. Messages are CloudEvents 1.0 in Kafka's binary mode, with JSON inside.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _message_of(record: type[TopicRecord]) -> dict[str, Any]:
    is_letter = record is DeadLetter
    names = sorted({*READ_HEADERS.get(record, COMMON_HEADERS), "ce_id"})
    headers = {name: {"type": "string"} for name in names}
    headers["ce_type"] = {"type": "string", "const": record.TYPE}
    headers["ce_specversion"] = {"type": "string", "const": SPEC_VERSION}
    return {
        "name": record.__name__,
        "contentType": "application/octet-stream" if is_letter else "application/json",
        "headers": {"type": "object", "properties": headers},
        "payload": {"type": "string", "format": "binary"} if is_letter else {"$ref": REF.format(name=record.__name__)},
        "bindings": {"kafka": {"key": {"type": "string"}}},
    }


def _drop_headers(record: type[TopicRecord], schema: dict[str, Any]) -> None:
    """Removes from the schema of a value the fields that travel as headers."""
    in_headers = HEADER_FIELDS.get(record, ATTRIBUTES)
    for name in in_headers:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema.get("required", ()) if name not in in_headers]
