"""Foreign messages as our records: which field of a message is which field of a record, by settings alone.

    {"ticket_id": 7, "body": "..."}  --`[bus.map.events] id = "{ticket_id}", text = "{body}"`-->  Event(id="7", ...)
    Answer  --`[bus.map.answers.fields] queue = "{label}"`-->  its message, with the field `queue` beside our own

    MapConfig --templates_of--> Template: "{customer.name}"  "{items.0.sku}"  "{note?}"  "{{literal}}"
              --field_map--> the fields of an Event or a Feedback       AnswerFields: further fields of an Answer

A path names an object's field or a list's place at each dot; if a field has the rest of the path as its name, dots and
all, it is that one. A field that is missing or null is an error, which names the nearest field that is there; behind
`?` it is empty. Numbers and truth values become the text that JSON has for them, lists and objects their JSON. There is
nothing else: no format codes, no attributes, no calls.

The topics of maps are read beside ours, and nothing of ours is ever sent to them. `wire.envelope` does the rest:
headers, ids, bounds.

Rejected: str.format and expressions (a template must not reach the attributes of an object, nor run code; whoever may
write settings could then run it in every process), a map that replaces our topics (labels by HTTP and found answers
would be sent to a topic of others), a list of maps for a topic (a message would be several labels; each task has a map
of its own instead), a map for each topic (topics of one company say the same in the same fields, and `?` marks those
that some lack), and answers that have foreign fields alone (the learner reads the answers, too).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import BeforeValidator

from wire.errors import BadMessage
from wire.inputs import Features
from wire.kinds import KINDS, LABEL_FIELDS
from wire.label_set import LabelConfig
from wire.message import CONTENT_TYPE, shown
from wire.records import Answer, TopicRecord
from wire.sections import SECTION, decoded, require

MAX_TEMPLATE_CHARS = 1_000
MAX_FILLED_BYTES = 1 << 20
"""Largest text that a template may become: a field may be named in it several times."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}.?]+(?:\.[^{}.?]+)*)(\?)?\}|[{}]")

MAX_FIELDS = 32
"""Most further fields of an answer, most headers that are passed on, and most topics of a map."""

RESERVED = ("ce_", "content-type")
"""Beginnings of the names of headers that are ours."""

LABEL_SETTINGS: Final = ("label", *LABEL_FIELDS[:-1])
"""The settings of a map that make a label, by the fields that they make."""

NO_TEMPLATES: Final = frozenset({"topic", "on_second_label", "features"})
"""The settings of a map that are no template of one field."""

Table: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(decoded)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(decoded)]

FieldMap: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Returns the fields of a record for the JSON object of a foreign message. Raises BadMessage where one is missing."""


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a field: its names, and whether it may be missing."""

    names: tuple[str, ...]
    is_optional: bool

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and paths, in their order. `name` is that of the setting, for messages."""

    name: str
    parts: tuple[str | Path, ...]

    @classmethod
    def of(cls, text: str, name: str) -> "Template":
        """Returns the template that `text` is. Raises ValueError, with the place, where it is none.

        >>> Template.of("{a.b} and {{c}}", "x").parts
        (Path(names=('a', 'b'), is_optional=False), ' and ', '{', 'c', '}')
        """
        if len(text) > MAX_TEMPLATE_CHARS:
            raise ValueError(f"{name} has {len(text)} characters, at most {MAX_TEMPLATE_CHARS} are read")
        parts: list[str | Path] = []
        at = 0
        for match in _PART.finditer(text):
            parts.append(text[at : match.start()])
            at = match.end()
            if match[1]:
                parts.append(Path(tuple(match[1].split(".")), is_optional=bool(match[2])))
            elif match[0] in ("{{", "}}"):
                parts.append(match[0][0])
            else:
                place = f"character {match.start() + 1}"
                raise ValueError(f"{name}: {place}: write {{field}} or {{path.to.field}}, and {{{{ for a brace")
        parts.append(text[at:])
        return cls(name, tuple(part for part in parts if part != ""))

    @property
    def paths(self) -> list[Path]:
        return [part for part in self.parts if isinstance(part, Path)]

    def fill(self, body: Mapping[str, Any]) -> str:
        """Returns the text for the fields of `body`. Raises BadMessage where one is missing, or the text too long."""
        texts = [part if isinstance(part, str) else self._text(part, body) for part in self.parts]
        if sum(map(len, texts)) > MAX_FILLED_BYTES:
            raise BadMessage("oversized", f"{self.name} becomes longer than {MAX_FILLED_BYTES} bytes")
        return "".join(texts)

    def value(self, body: Mapping[str, Any]) -> Any:
        """Returns the value itself where the template is one field alone, such as a number; else the text."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Path):
            return self._found(self.parts[0], body)
        return self.fill(body)

    def _text(self, path: Path, body: Mapping[str, Any]) -> str:
        found = self._found(path, body)
        if isinstance(found, str):
            return found
        return "" if found is None else msgspec.json.encode(found).decode()

    def _found(self, path: Path, body: Mapping[str, Any]) -> Any:
        value: Any = body
        for at, name in enumerate(path.names):
            rest = ".".join(path.names[at:])
            if (whole := _inner(value, rest)) is not None:
                return whole
            if (inner := _inner(value, name)) is None:
                if path.is_optional:
                    return None
                there = _event_there(value, path) or _there(value, rest if _has(value, rest) else name)
                raise BadMessage("wrong_schema", f"`{path}` is missing (setting {self.name}){there}")
            value = inner
        return value


def _inner(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


def _has(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) and name in value


def _event_there(value: Any, path: Path) -> str:
    """Says how the data of a CloudEvent are reached, where the message is one and does not say so; else ""."""
    if not (_has(value, "specversion") and _has(value, "data")):
        return ""
    return f": it is a CloudEvent. Send the header content-type: {CONTENT_TYPE}, or write {{data.{path}}}"


def _there(value: Any, name: str) -> str:
    """Says what is there instead, and which of it may be meant."""
    if not isinstance(value, Mapping):
        return f": there is no field in a JSON {type(value).__name__}"
    if name in value:
        return f": `{name}` is null; write {{{name}?}} where it may be"
    close = get_close_matches(name, value, n=1)
    found = f": there are {shown(', '.join(value))}" if value else ": the object is empty"
    return f"{found}. Did you mean {shown(close[0])}?" if close else found


def templates_of(section: Any, name: str) -> dict[str, Template]:
    """Returns the templates of a map by the field of ours that each makes. Raises ValueError where one is none."""
    names = [each.name for each in fields(section) if each.name not in NO_TEMPLATES]
    texts = {each: getattr(section, each) for each in names}
    return {field_: Template.of(text, f"{name}.{field_}") for field_, text in texts.items() if text}


def feature_templates_of(section: Any, name: str) -> dict[str, Template]:
    """Returns the templates of the features of a map by name. Raises ValueError where one is none."""
    return {each: Template.of(text, f"{name}.features.{each}") for each, text in section.features.items()}


def _check(section: Any, name: str, *, needed: tuple[str, ...]) -> None:
    templates = templates_of(section, name) | feature_templates_of(section, name)
    missing = [each for each in needed if each not in templates]
    require(
        (bool(section.topic) or not templates, f"{name}.topic is required: it names the topic that is mapped"),
        (len(section.topic) <= MAX_FIELDS, f"{name}.topic: at most {MAX_FIELDS} topics are mapped"),
        (not section.topic or not missing, f"{name}.topic needs {', '.join(f'{name}.{each}' for each in missing)}"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventMap:
    """Foreign messages as events. Each field is a template, such as `{customer.id}`."""

    __pydantic_config__ = SECTION

    topic: Names = ()
    """Topic of foreign messages that are events, or a list of topics, read beside ours. Empty: none."""
    id: str = ""
    """Id, such as `{ticket_id}`. Empty: that of the CloudEvent, or the place of the message."""
    text: str = ""
    """Text to answer, such as `{subject}\\n{body}`."""
    key: str = ""
    """Entity, such as `{customer}`. Empty: the key of the message."""
    source: str = ""
    """Source. Empty: that of the CloudEvent."""
    tasks: str = ""
    """Tasks that answer it, with commas between their names. Empty: all of them."""
    features: Table = field(default_factory=dict)
    """Numbers and categories by name: `price = "{price}"`. A field alone keeps its type; other templates make text."""

    def __post_init__(self) -> None:
        _check(self, "bus.map.events", needed=() if self.features else ("text",))


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackMap:
    """Foreign messages as labels. Each field is a template."""

    __pydantic_config__ = SECTION

    topic: Names = ()
    """Topic of foreign messages that are labels, or a list of topics, read beside ours. Empty: none."""
    on_second_label: Literal["replace", "ignore"] = "replace"
    """What becomes of another label of an event that has one: it takes its place, as where a desk corrects itself, or
    is counted as `duplicate`."""
    event_id: str = ""
    """Id of the event that is labelled, such as `{ticket_id}`."""
    label: str = ""
    """Label, such as `{queue}`."""
    labels: str = ""
    """Set of labels, a list such as `{tags}`, in the place of one label: where labels.kind is multilabel."""
    value: str = ""
    """Score, a number such as `{points}`, in the place of a label: where labels.kind is score."""
    key: str = ""
    """Key of the event, where a receipt is given."""
    event_source: str = ""
    """Source of the event, such as `/crm`, where sources count alike. Empty: the label does not name it."""
    source: str = ""
    """Who says so, such as `{agent}`. Empty: the source of the CloudEvent."""
    receipt: str = ""
    """Receipt of the answer, where the labeller has it."""
    text: str = ""
    """Text of the event, for labels of events whose answers no longer wait."""
    task: str = ""
    """Task that the label is of. Empty: the default one."""
    features: Table = field(default_factory=dict)
    """Numbers and categories of the event, for such labels."""

    def __post_init__(self) -> None:
        made = self.makes or ["label"]
        _check(self, "bus.map.feedback", needed=("event_id", *made))
        both = " and ".join(f"bus.map.feedback.{name}" for name in made)
        require((len(made) == 1, f"{both}: a message is one label, so only one of them makes it. Remove the others"))

    @property
    def makes(self) -> list[str]:
        """What is made of a message, of `label`, `labels` and `value`."""
        return [name for name in LABEL_SETTINGS if getattr(self, name)]

    def misfit(self, labels: LabelConfig, task: str) -> str:
        """Returns what is wrong where the labels that the map makes for a task are of another kind than those of the
        task; "" where they fit, or are of another task."""
        wanted = KINDS.get(labels.kind).field
        if self.task != task or not self.makes or self.makes == [wanted]:
            return ""
        wrong = f"bus.map.feedback.{self.makes[0]} makes no label of labels.kind {labels.kind}"
        if wanted not in LABEL_SETTINGS:
            return f"{wrong}: no map makes one, send them to the topic of labels"
        return f"{wrong}: map bus.map.feedback.{wanted} in its place"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerMap:
    """What consumers of the answers find in them beside our own fields."""

    __pydantic_config__ = SECTION

    topic: str = ""
    """Topic of the answers. Empty: `answers.v1` behind `bus.prefix`. The learner reads it, too."""
    fields: Table = field(default_factory=dict)
    """Further fields of an answer by name, as templates of its own fields: `queue = "{label}"`."""
    headers: Names = ("traceparent",)
    """Headers of an event's message that its answer's message has, too."""

    def __post_init__(self) -> None:
        ours = [each.name for each in msgspec.structs.fields(Answer)]
        wrong: list[str] = []
        for name, text in self.fields.items():
            setting = f"bus.map.answers.fields.{name}"
            if name in ours:
                wrong.append(f"{setting} is a field that answers have already")
            for path in Template.of(text, setting).paths:
                if path.names[0] not in ours:
                    close = get_close_matches(path.names[0], ours, n=1)
                    meant = f"Did you mean {close[0]}?" if close else f"There are {', '.join(ours)}"
                    wrong.append(f"{setting}: answers have no field {path.names[0]}. {meant}")
        require(
            *((False, sentence) for sentence in wrong),
            (len(self.fields) <= MAX_FIELDS, f"bus.map.answers.fields: at most {MAX_FIELDS} fields are added"),
            (len(self.headers) <= MAX_FIELDS, f"bus.map.answers.headers: at most {MAX_FIELDS} headers are passed on"),
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
    """Returns the map of a section. A field without a template is left out, for the envelope to complete."""
    name = "bus.map.events" if isinstance(section, EventMap) else "bus.map.feedback"
    templates = templates_of(section, name)
    features = feature_templates_of(section, name)

    def fields(body: Mapping[str, Any]) -> dict[str, Any]:
        mapped: dict[str, Any] = {
            field: label_in(field, template, body) if field in LABEL_SETTINGS else template.fill(body)
            for field, template in templates.items()
        }
        if "tasks" in mapped:
            mapped["tasks"] = [task.strip() for task in mapped["tasks"].split(",") if task.strip()]
        known = features_of(features, body)
        return {**mapped, "features": known} if known else mapped

    return fields


def label_in(field: str, template: Template, body: Mapping[str, Any]) -> Any:
    """Returns what a template makes of a message for `label`, `labels` or `value`. Raises BadMessage where it is no
    name, no list of names, or no number: nobody wants a class that is called `["a", "b"]`."""
    value = template.value(body)
    try:
        return KINDS.of_field(field).from_value(value)
    except BadMessage as error:
        found = shown(msgspec.json.encode(value).decode())
        raise BadMessage(error.reason, f"{template.name} is {found}, and {error.detail}") from None


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
