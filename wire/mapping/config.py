"""The settings of the maps: the topics of foreign messages, and for each field of ours the template of its text.

Rejected: maps as code of the user (whoever may write settings could then run it in every process), a list of maps
for a topic (a message would be several labels; each task has a map of its own instead), and a map for each topic
(topics of one company say the same in the same fields, and `?` marks those that some lack).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import BeforeValidator

from wire.label_config import LabelConfig
from wire.mapping.template import Template
from wire.records import Answer
from wire.sections import SECTION, decoded, require
from wire.targets import Kind

MAX_FIELDS = 32
"""Most further fields of an answer, most headers that are passed on, and most topics of a map."""

RESERVED = ("ce_", "content-type")
"""Beginnings of the names of headers that are ours."""


LABEL_OF: Final[Mapping[Kind, str]] = {"class": "label", "multilabel": "labels", "score": "value"}
"""The setting of a map that makes a label of each kind."""

NO_TEMPLATES: Final = frozenset({"topic", "on_second_label", "features"})
"""The settings of a map that are no template of one field."""

Table: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(decoded)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(decoded)]


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
        return [name for name in LABEL_OF.values() if getattr(self, name)]

    def misfit(self, labels: LabelConfig, task: str) -> str:
        """Returns what is wrong where the labels that the map makes for a task are of another kind than those of the
        task; "" where they fit, or are of another task."""
        wanted = LABEL_OF[labels.kind]
        if self.task != task or not self.makes or self.makes == [wanted]:
            return ""
        return (
            f"bus.map.feedback.{self.makes[0]} makes no label of labels.kind {labels.kind}: map "
            f"bus.map.feedback.{wanted} in its place"
        )


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
