"""JSON Schemas of the values of messages, for the topics that clients read or write.

    Event --SCHEMAS["event"]--> draft 2020-12, also in docs/schemas/event.json

Readers ignore unknown fields, so the schemas allow them. Headers are not part of a value. An event's id, source and
time may be in the value or in the headers `ce_id`, `ce_source` and `ce_time`.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from wire.inputs import EMPTY_CONTENT
from wire.kinds import LABEL_FIELDS
from wire.records.topics import Answer, Event, Feedback, Quarantined, TopicRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REF = "#/$defs/{name}"


def schema_components(records: Iterable[type], ref_template: str) -> dict[str, dict[str, Any]]:
    """Returns the schemas of `records` and of the records inside them, by name.

    The description of a schema is the record's docstring without indentation. Only msgspec 0.23 and later remove it.
    """
    _, components = msgspec.json.schema_components(records, ref_template=ref_template)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return components


def _schema(record: type[TopicRecord]) -> dict[str, Any]:
    definitions = schema_components([record], REF)
    schema = definitions.pop(record.__name__)
    schema["properties"].pop("headers", None)
    if record is Event:
        # The id may be missing: then it is in a header, or the place of the message is the id.
        del schema["required"]
        schema["anyOf"] = [{"required": [name]} for name in EMPTY_CONTENT]
    if record is Feedback:
        schema["anyOf"] = [{"required": [name]} for name in ("label", *LABEL_FIELDS)]
    whole = {"$schema": DIALECT, "$id": record.TYPE, **schema}
    if definitions:
        whole["$defs"] = definitions
    # Defaults are tuples here, and lists in JSON.
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return decoded


SCHEMAS: dict[str, dict[str, Any]] = {
    record.__name__.lower(): _schema(record) for record in (Event, Answer, Feedback, Quarantined)
}
"""The schema of each record by its name in lower case. A dead letter has no schema, because its value is the refused
payload."""
