"""Makes the fields of a record of a foreign message, and the further fields of an answer.

the JSON object of a message --field_map(settings)--> the fields of an Event or a Feedback
Answer --AnswerFields--> fields beside its own
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from wire.errors import BadMessage
from wire.features import Features
from wire.mapping.config import LABEL_OF, AnswerMap, EventMap, FeedbackMap, feature_templates_of, templates_of
from wire.mapping.template import Template
from wire.message import shown
from wire.records import Answer, TopicRecord

FieldMap: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Returns the fields of a record for the JSON object of a foreign message. Raises BadMessage where one is missing."""


def field_map(section: EventMap | FeedbackMap) -> FieldMap:
    """Returns the map of a section. A field without a template is left out, for the envelope to complete."""
    name = "bus.map.events" if isinstance(section, EventMap) else "bus.map.feedback"
    templates = templates_of(section, name)
    features = feature_templates_of(section, name)

    def fields(body: Mapping[str, Any]) -> dict[str, Any]:
        mapped: dict[str, Any] = {
            field: target_of(field, template, body) if field in LABEL_OF.values() else template.fill(body)
            for field, template in templates.items()
        }
        if "tasks" in mapped:
            mapped["tasks"] = [task.strip() for task in mapped["tasks"].split(",") if task.strip()]
        known = features_of(features, body)
        return {**mapped, "features": known} if known else mapped

    return fields


def target_of(field: str, template: Template, body: Mapping[str, Any]) -> Any:
    """Returns what a template makes of a message for `label`, `labels` or `value`. Raises BadMessage where it is no
    name, no list of names, or no number: nobody wants a class that is called `["a", "b"]`."""
    value = template.value(body)
    if field == "label":
        if isinstance(value, list | dict):
            other = f"{template.name}s takes a list of names, where labels.kind is multilabel"
            raise BadMessage("wrong_schema", f"{_made(template, value)}, and a label is one name: {other}")
        return template.fill(body)
    if field == "labels":
        if isinstance(value, list) and not any(isinstance(name, list | dict) for name in value):
            return [name if isinstance(name, str) else msgspec.json.encode(name).decode() for name in value]
        if value is None:
            return None
        raise BadMessage("wrong_schema", f"{_made(template, value)}, and a set of labels is a list of names")
    if isinstance(value, bool | list | dict):
        raise BadMessage("wrong_schema", f"{_made(template, value)}, and a score is a number")
    try:
        return None if value is None else float(value)
    except ValueError:
        raise BadMessage("wrong_schema", f"{_made(template, value)}, and a score is a number") from None


def _made(template: Template, value: Any) -> str:
    return f"{template.name} is {shown(msgspec.json.encode(value).decode())}"


def features_of(templates: Mapping[str, Template], body: Mapping[str, Any]) -> Features:
    """Returns the numbers and categories that the templates make of a message, by name; without those it lacks."""
    values = {name: _feature_of(template.value(body)) for name, template in templates.items()}
    return {name: value for name, value in values.items() if value is not None}


def _feature_of(value: Any) -> float | str | None:
    """Returns a number or a text as it is, a truth value as a category, None where there is none, and else its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return float(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()


class AnswerFields:
    """Makes the further fields of answers. They are computed of the answer alone, so equal answers have equal ones."""

    def __init__(self, config: AnswerMap) -> None:
        self._templates = [(name, _optional(Template.of(text, name))) for name, text in config.fields.items()]

    def of(self, record: TopicRecord) -> dict[str, Any]:
        """Returns the fields of an answer by name, none of another record. A field of the answer that it lacks, such as
        a label, is null or empty."""
        if not (self._templates and isinstance(record, Answer)):
            return {}
        body = msgspec.to_builtins(record)
        return {name: template.value(body) for name, template in self._templates}


def _optional(template: Template) -> Template:
    """Returns the template with every field optional: an answer without a label is an answer."""
    parts = [part if isinstance(part, str) else type(part)(part.names, is_optional=True) for part in template.parts]
    return Template(template.name, tuple(parts))
