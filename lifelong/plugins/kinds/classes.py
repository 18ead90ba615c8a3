"""Labels that are one class: `label`, a name. Its string is the name itself.

An answer agrees with its label wholly or not at all.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from wire.errors import BadMessage
from wire.kinds import MARKS, Card, Fingerprint, Range, name_hash

MARKED: Final = "a label has one of the characters U+001C, U+001D, U+001E and U+001F, which mark labels: leave it out"


class ClassKind:
    """One class of each event."""

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
        return text_of(value)

    def from_text(self, text: str) -> str:
        return text

    def render(self, label: str) -> str:
        return label

    def class_names(self, label: str) -> tuple[str, ...]:
        return (label,)

    def row_names(self, label: str) -> tuple[str, ...]:
        return (label,)

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        """Returns the first name; "" if there is none."""
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
    """Whether a name has a character that marks a label of another kind."""
    return any(mark in name for mark in MARKS)


def text_of(value: Any) -> str:
    """Returns a text as it is, nothing as an empty one, and any other value as its JSON.

    >>> text_of("7"), text_of(7), text_of(True), text_of(None)
    ('7', '7', 'true', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


CLASS: Final = ClassKind()
