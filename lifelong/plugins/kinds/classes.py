"""The kind `class`: the label of an event is one class, the field `label`. Its string is the name of the class.

The agreement of an answer with its label is 1 or 0.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from wire.errors import BadMessage
from wire.kinds import MARKS, Card, Fingerprint, Range, name_hash

MARKED: Final = "a label has one of the characters U+001C, U+001D, U+001E and U+001F, which mark labels: leave it out"


class ClassKind:
    """The kind of labels that are one class."""

    name = "class"
    field = "label"
    noun = "one label"
    how_sent = "`label`, one name"
    marks = ("",)
    tensors = "lifelong.plugins.kinds.class_tensors:TENSORS"
    is_exclusive = True
    has_classes = True
    trains_encoder = True
    examples = ("refund", "lost card")

    def problem(self, value: str) -> str:
        if not value.strip():
            return "`label` is blank"
        return MARKED if is_marked(value) else ""

    def read(self, value: str) -> str:
        return value

    def write(self, label: str) -> str:
        return label

    def from_value(self, value: Any) -> str:
        if isinstance(value, list | dict):
            raise BadMessage(
                "wrong_schema",
                "a label is one name: `labels` takes a list of names, if labels.kind is multilabel",
            )
        return to_name(value)

    def from_text(self, text: str) -> str:
        return text

    def render(self, label: str) -> str:
        return label

    def class_names(self, label: str) -> tuple[str, ...]:
        return (label,)

    def row_names(self, label: str) -> tuple[str, ...]:
        return (label,)

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        """Returns the first name, or "" if there are no names."""
        return names[0] if names else ""

    def learnt(self, label: str, space: Range) -> str:
        return label

    def fingerprint(self, label: str) -> Fingerprint:
        return name_hash(label)

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        return float(predicted == labelled)

    def card(self, space: Range) -> Card:
        best = "return [self.labels[row] for row in self.scores(texts).argmax(dim=1).tolist()]"
        return Card("torch.softmax(logits, dim=1)", best)


def is_marked(name: str) -> bool:
    """Whether a name contains a character that is reserved for marks of other kinds."""
    return any(mark in name for mark in MARKS)


def to_name(value: Any) -> str:
    """Returns the name that a JSON value means: a string as it is, null as "", and any other value as its JSON.

    >>> to_name("7"), to_name(7), to_name(True), to_name(None)
    ('7', '7', 'true', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


CLASS: Final = ClassKind()
