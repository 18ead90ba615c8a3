"""Field mapping: settings say how the fields of foreign messages become the fields of our records.

    {"ticket_id": 7, "body": "..."}  --`[bus.map.events] id = "{ticket_id}", text = "{body}"`-->  Event(id="7", ...)
    Answer  --`[bus.map.answers.fields] queue = "{label}"`-->  its message, with `queue` added to our fields

    MapConfig --field_templates--> Template: "{customer.name}"  "{items.0.sku}"  "{note?}"  "{{literal}}"
              --field_map--> the fields of an Event or a Feedback       AnswerFields: further fields of an Answer

In a path, the parts between the dots are names of fields or indexes of lists. The whole rest of a path may also be the
name of one field that contains dots. If a field is missing or null, the message is refused, and the error suggests the
most similar field. If the path ends with `?`, the text is empty instead. Numbers, booleans, lists and objects are
rendered as JSON. Templates have no format codes, attributes or calls.

Mapped topics are read in addition to our topics. No records are sent to them. `wire.envelope` handles headers, ids and
bounds.

Rejected:

- str.format and expressions: a template must not reach the attributes of an object or run code, or anyone who may write
  settings could run code in every process.
- A map that replaces our topics: labels by HTTP, and late labels that are sent again with their answers, would be sent
  to a foreign topic.
- Several maps for a topic: one message would make several labels. Each task has its own map instead.
- A map for each topic: the topics of one company use the same fields, and `?` marks fields that some of them lack.
- Answers that have only foreign fields: the learner reads the answers, too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import BeforeValidator

from wire.errors import BadMessage
from wire.inputs import Features
from wire.kinds import KINDS, LABEL_FIELDS
from wire.label_set import LabelConfig
from wire.message import CONTENT_TYPE, quote_text
from wire.records import Answer, TopicRecord
from wire.sections import SECTION, parse_json_setting, require

MAX_TEMPLATE_CHARS = 1_000
MAX_FILLED_BYTES = 1 << 20
"""Size of the largest text that a template may produce. It is bounded, because a template may repeat a field."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}.?]+(?:\.[^{}.?]+)*)(\?)?\}|[{}]")

MAX_FIELDS = 32
"""Highest number of further fields of an answer, of copied headers, and of topics of a map."""

RESERVED = ("ce_", "content-type")
"""The prefixes of our own headers."""

LABEL_SETTINGS: Final = ("label", *LABEL_FIELDS[:-1])
"""The settings of a map whose templates make a label. Each is named like the field that it makes."""

NO_TEMPLATES: Final = frozenset({"topic", "on_second_label", "features"})
"""The settings of a map that are not the template of a single field."""

Table: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(parse_json_setting)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(parse_json_setting)]

FieldMap: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Maps the JSON object of a foreign message to the fields of a record. Raises BadMessage if a field is missing."""


@dataclass(frozen=True, slots=True)
class Path:
    """The path to a field: the names on the way, and whether the field may be missing."""

    names: tuple[str, ...]
    is_optional: bool

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literal texts and paths, in order. `name` is the name of its setting, for error messages."""

    name: str
    parts: tuple[str | Path, ...]

    @classmethod
    def of(cls, text: str, name: str) -> "Template":
        """Parses a template. Raises ValueError, with the position of the error.

        >>> Template.of("{a.b} and {{c}}", "x").parts
        (Path(names=('a', 'b'), is_optional=False), ' and ', '{', 'c', '}')
        """
        if len(text) > MAX_TEMPLATE_CHARS:
            raise ValueError(f"{name} has {len(text)} characters, at most {MAX_TEMPLATE_CHARS} are read")
        parts: list[str | Path] = []
        end = 0
        for match in _PART.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[1]:
                parts.append(Path(tuple(match[1].split(".")), is_optional=bool(match[2])))
            elif match[0] in ("{{", "}}"):
                parts.append(match[0][0])
            else:
                place = f"character {match.start() + 1}"
                raise ValueError(f"{name}: {place}: write {{field}} or {{path.to.field}}, and {{{{ for a brace")
        parts.append(text[end:])
        return cls(name, tuple(part for part in parts if part != ""))

    @property
    def paths(self) -> list[Path]:
        return [part for part in self.parts if isinstance(part, Path)]

    def fill(self, body: Mapping[str, Any]) -> str:
        """Returns the text for the fields of `body`. Raises BadMessage if one is missing or the text is too long."""
        texts = [part if isinstance(part, str) else self._text(part, body) for part in self.parts]
        if sum(map(len, texts)) > MAX_FILLED_BYTES:
            raise BadMessage("oversized", f"the text of {self.name} is longer than {MAX_FILLED_BYTES} bytes")
        return "".join(texts)

    def value(self, body: Mapping[str, Any]) -> Any:
        """Returns the value of the field if the template is a single field, such as a number; else the text.

        Raises BadMessage.
        """
        if len(self.parts) == 1 and isinstance(self.parts[0], Path):
            return self._look_up(self.parts[0], body)
        return self.fill(body)

    def _text(self, path: Path, body: Mapping[str, Any]) -> str:
        value = self._look_up(path, body)
        if isinstance(value, str):
            return value
        return "" if value is None else msgspec.json.encode(value).decode()

    def _look_up(self, path: Path, body: Mapping[str, Any]) -> Any:
        value: Any = body
        for depth, name in enumerate(path.names):
            rest = ".".join(path.names[depth:])
            # A field may have dots in its name.
            if (dotted := _item(value, rest)) is not None:
                return dotted
            if (inner := _item(value, name)) is None:
                if path.is_optional:
                    return None
                hint = _cloud_event_hint(value, path) or _field_hint(value, rest if _has(value, rest) else name)
                raise BadMessage("wrong_schema", f"`{path}` is missing (setting {self.name}){hint}")
            value = inner
        return value


def _item(value: Any, name: str) -> Any:
    """Returns the field of an object or the item of a list; None if there is none."""
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


def _has(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) and name in value


def _cloud_event_hint(value: Any, path: Path) -> str:
    """Returns the fix if the message is a structured CloudEvent without its content type, so that its data were not
    unpacked; else ""."""
    if not (_has(value, "specversion") and _has(value, "data")):
        return ""
    return f": it is a CloudEvent. Send the header content-type: {CONTENT_TYPE}, or write {{data.{path}}}"


def _field_hint(value: Any, name: str) -> str:
    """Returns the fields that `value` has instead of `name`, with a suggestion."""
    if not isinstance(value, Mapping):
        return f": there is no field in a JSON {type(value).__name__}"
    if name in value:
        return f": `{name}` is null; write {{{name}?}} if it may be null"
    close = get_close_matches(name, value, n=1)
    hint = f": there are {quote_text(', '.join(value))}" if value else ": the object is empty"
    return f"{hint}. Did you mean {quote_text(close[0])}?" if close else hint


def field_templates(section: Any, name: str) -> dict[str, Template]:
    """Returns the parsed templates of a map, each by the record's field that it makes. Raises ValueError."""
    targets = [setting.name for setting in fields(section) if setting.name not in NO_TEMPLATES]
    texts = {target: getattr(section, target) for target in targets}
    return {target: Template.of(text, f"{name}.{target}") for target, text in texts.items() if text}


def feature_templates(section: Any, name: str) -> dict[str, Template]:
    """Returns the parsed templates of a map's features, by the name of the feature. Raises ValueError."""
    return {feature: Template.of(text, f"{name}.features.{feature}") for feature, text in section.features.items()}


def _check(section: Any, name: str, *, needed: tuple[str, ...]) -> None:
    templates = field_templates(section, name) | feature_templates(section, name)
    missing = [target for target in needed if target not in templates]
    require(
        (bool(section.topic) or not templates, f"{name}.topic is required: it names the mapped topic"),
        (len(section.topic) <= MAX_FIELDS, f"{name}.topic: at most {MAX_FIELDS} topics are mapped"),
        (not section.topic or not missing, f"{name}.topic needs {', '.join(f'{name}.{target}' for target in missing)}"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventMap:
    """Foreign messages as events. Each field is a template, such as `{customer.id}`."""

    __pydantic_config__ = SECTION

    topic: Names = ()
    """Topic of foreign messages that are events, or a list of topics. It is read in addition to ours. Empty: none."""
    id: str = ""
    """Id, such as `{ticket_id}`. Empty: the id of the CloudEvent, or the place of the message."""
    text: str = ""
    """Text to answer, such as `{subject}\\n{body}`."""
    key: str = ""
    """Entity, such as `{customer}`. Empty: the key of the message."""
    source: str = ""
    """Source. Empty: the source of the CloudEvent."""
    tasks: str = ""
    """Tasks that answer the event, with commas between their names. Empty: all tasks."""
    features: Table = field(default_factory=dict)
    """Numbers and categories by name: `price = "{price}"`. A template of a single field keeps the field's type; any
    other template makes a text."""

    def __post_init__(self) -> None:
        _check(self, "bus.map.events", needed=() if self.features else ("text",))


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackMap:
    """Foreign messages as labels. Each field is a template."""

    __pydantic_config__ = SECTION

    topic: Names = ()
    """Topic of foreign messages that are labels, or a list of topics. It is read in addition to ours. Empty: none."""
    on_second_label: Literal["replace", "ignore"] = "replace"
    """What to do with a second label of an event: `replace` the first one, such as when an agent corrects a mistake, or
    `ignore` it and count it as `duplicate`."""
    event_id: str = ""
    """Id of the labelled event, such as `{ticket_id}`."""
    label: str = ""
    """Label, such as `{queue}`."""
    labels: str = ""
    """Set of labels, a list such as `{tags}`, instead of one label, if labels.kind is multilabel."""
    value: str = ""
    """Score, a number such as `{points}`, instead of a label, if labels.kind is score."""
    key: str = ""
    """Key of the event, if `receipt` is given."""
    event_source: str = ""
    """Source of the event, such as `/crm`, if several sources may use the same ids. Empty: the label does not name the
    source."""
    source: str = ""
    """Source of the label, such as `{agent}`. Empty: the source of the CloudEvent."""
    receipt: str = ""
    """Receipt of the answer, if the labeller has it."""
    text: str = ""
    """Text of the event, for labels of events whose answers no longer wait."""
    task: str = ""
    """Task of the label. Empty: the default task."""
    features: Table = field(default_factory=dict)
    """Numbers and categories of the event, for labels of events whose answers no longer wait."""

    def __post_init__(self) -> None:
        label_fields = self.label_fields or ["label"]
        _check(self, "bus.map.feedback", needed=("event_id", *label_fields))
        names = " and ".join(f"bus.map.feedback.{name}" for name in label_fields)
        is_one = len(label_fields) == 1
        require((is_one, f"{names}: a message has one label, so set only one of them. Remove the others"))

    @property
    def label_fields(self) -> list[str]:
        """The fields of a label that the map fills, among `label`, `labels` and `value`."""
        return [name for name in LABEL_SETTINGS if getattr(self, name)]

    def kind_mismatch(self, labels: LabelConfig, task: str) -> str:
        """Returns the problem if the map makes labels for `task` that are not of the task's kind.

        Returns "" if they are of this kind, or if the map makes labels for another task.
        """
        wanted = KINDS.get(labels.kind).field
        if self.task != task or not self.label_fields or self.label_fields == [wanted]:
            return ""
        problem = f"bus.map.feedback.{self.label_fields[0]} makes no label of labels.kind {labels.kind}"
        if wanted not in LABEL_SETTINGS:
            return f"{problem}: no map can make such labels, send them to the topic of labels"
        return f"{problem}: map bus.map.feedback.{wanted} instead"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerMap:
    """Fields and headers that are added to answers for their consumers."""

    __pydantic_config__ = SECTION

    topic: str = ""
    """Topic of the answers, which the learner reads, too. Empty: `bus.prefix` followed by `answers.v1`."""
    fields: Table = field(default_factory=dict)
    """Additional fields of an answer by name, as templates of its own fields: `queue = "{label}"`."""
    headers: Names = ("traceparent",)
    """Headers that are copied from an event's message to its answer's message."""

    def __post_init__(self) -> None:
        ours = [answer_field.name for answer_field in msgspec.structs.fields(Answer)]
        problems: list[str] = []
        for name, text in self.fields.items():
            setting = f"bus.map.answers.fields.{name}"
            if name in ours:
                problems.append(f"{setting} is a field that answers have already")
            for path in Template.of(text, setting).paths:
                if path.names[0] not in ours:
                    close = get_close_matches(path.names[0], ours, n=1)
                    hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(ours)}"
                    problems.append(f"{setting}: answers have no field {path.names[0]}. {hint}")
        require(
            *((False, problem) for problem in problems),
            (len(self.fields) <= MAX_FIELDS, f"bus.map.answers.fields: at most {MAX_FIELDS} fields are added"),
            (len(self.headers) <= MAX_FIELDS, f"bus.map.answers.headers: at most {MAX_FIELDS} headers are copied"),
            (
                not any(name.lower().startswith(RESERVED) for name in self.headers),
                "bus.map.answers.headers: an answer has its own headers ce_... and content-type",
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MapConfig:
    """The maps of foreign messages."""

    __pydantic_config__ = SECTION

    events: EventMap = EventMap()
    feedback: FeedbackMap = FeedbackMap()
    answers: AnswerMap = AnswerMap()


def field_map(section: EventMap | FeedbackMap) -> FieldMap:
    """Returns the function that a section of settings describes. It omits fields without a template; `wire.envelope`
    adds them."""
    name = "bus.map.events" if isinstance(section, EventMap) else "bus.map.feedback"
    templates = field_templates(section, name)
    features = feature_templates(section, name)

    def fields(body: Mapping[str, Any]) -> dict[str, Any]:
        mapped: dict[str, Any] = {}
        for target, template in templates.items():
            is_label = target in LABEL_SETTINGS
            mapped[target] = label_in(target, template, body) if is_label else template.fill(body)
        if "tasks" in mapped:
            mapped["tasks"] = [task.strip() for task in mapped["tasks"].split(",") if task.strip()]
        if values := map_features(features, body):
            mapped["features"] = values
        return mapped

    return fields


def label_in(field: str, template: Template, body: Mapping[str, Any]) -> Any:
    """Returns the value of a message's `label`, `labels` or `value`.

    Raises BadMessage if the value does not have the field's type. For example, a list must not become a class named
    `["a", "b"]`.
    """
    value = template.value(body)
    try:
        return KINDS.of_field(field).from_value(value)
    except BadMessage as error:
        value_text = quote_text(msgspec.json.encode(value).decode())
        raise BadMessage(error.reason, f"{template.name} is {value_text}, and {error.detail}") from None


def map_features(templates: Mapping[str, Template], body: Mapping[str, Any]) -> Features:
    """Returns the features of a message by name, made by the templates. Features of missing optional fields are left
    out."""
    values = {name: _feature(template.value(body)) for name, template in templates.items()}
    return {name: value for name, value in values.items() if value is not None}


def _feature(value: Any) -> float | str | None:
    """Converts a JSON value to a feature. A boolean becomes a category, and a list or an object its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return float(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()


class AnswerFields:
    """Makes the additional fields of answers. They depend only on the answer, so equal answers have equal fields."""

    def __init__(self, config: AnswerMap) -> None:
        self._templates = [(name, _optional(Template.of(text, name))) for name, text in config.fields.items()]

    def of(self, record: TopicRecord) -> dict[str, Any]:
        """Returns the additional fields of an answer; {} for any other record.

        If the answer lacks a field that a template names, such as its label, the value is null or empty.
        """
        if not (self._templates and isinstance(record, Answer)):
            return {}
        body = msgspec.to_builtins(record)
        return {name: template.value(body) for name, template in self._templates}


def _optional(template: Template) -> Template:
    """Returns the template with all its fields optional, because an answer may lack a label."""
    parts: list[str | Path] = []
    for part in template.parts:
        parts.append(part if isinstance(part, str) else replace(part, is_optional=True))
    return Template(template.name, tuple(parts))
