"""The kind `multilabel`: the label of an event is a set of classes, maybe empty, the field `labels`.

    join_names(["urgent", "refund"]) == "\\x1drefund\\x1durgent"         join_names([]) == "\\x1d"

The agreement of an answer with its label is the F1 of the two sets, 2 |named and labelled| / (|named| + |labelled|).
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from lifelong.plugins.kinds.classes import MARKED, is_marked
from wire.errors import BadMessage
from wire.kinds import MAX_WORDS, Card, Fingerprint, Range, name_hash

MARK: Final = "\x1d"
"""The character before each name of a set: the group separator of ASCII."""

MAX_NAMES: Final = 64
"""The most names in a set."""

NAMED_CODE: Final = f"""rows = [sorted(zip(row, self.labels), reverse=True) for row in self.scores(texts).tolist()]
        return [[label for score, label in row[:{MAX_WORDS}] if score > 0.5] for row in rows]"""
"""The Python code by which an exported version returns the predicted classes, best first."""


class SetKind:
    """The kind of labels that are sets of classes."""

    name = "multilabel"
    field = "labels"
    noun = "a set of labels"
    how_sent = "`labels`, a list"
    marks = (MARK,)
    tensors = "lifelong.plugins.kinds.set_tensors:TENSORS"
    is_exclusive = False
    has_classes = True
    trains_encoder = True
    examples = (f"{MARK}refund{MARK}urgent", f"{MARK}refund", MARK)

    def problem(self, value: Sequence[str]) -> str:
        if any(map(is_marked, value)):
            return MARKED
        if len(value) > MAX_NAMES:
            return f"`labels` has {len(value)} names, at most {MAX_NAMES} are read"
        return "" if all(map(str.strip, value)) else "`labels` has a blank name: leave it out"

    def read(self, value: Sequence[str]) -> str:
        return join_names(value)

    def write(self, label: str) -> tuple[str, ...]:
        return unpack_names(label)

    def from_value(self, value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or any(isinstance(name, list | dict) for name in value):
            raise BadMessage("wrong_schema", "a set of labels is a list of names")
        return tuple(name if isinstance(name, str) else msgspec.json.encode(name).decode() for name in value)

    def from_text(self, text: str) -> tuple[str, ...]:
        """Returns the names in a text, in which commas separate them."""
        return split_names(text)

    def render(self, label: str) -> str:
        return ", ".join(unpack_names(label)) or "(none)"

    def class_names(self, label: str) -> tuple[str, ...]:
        return unpack_names(label)

    def row_names(self, label: str) -> tuple[str, ...]:
        return unpack_names(label)

    def with_classes(self, label: str, names: Sequence[str]) -> str:
        return join_names(names)

    def learnt(self, label: str, space: Range) -> str:
        return label

    def fingerprint(self, label: str) -> Fingerprint:
        return tuple(map(name_hash, unpack_names(label)))

    def agreement(self, predicted: Fingerprint, labelled: Fingerprint) -> float:
        if isinstance(predicted, int) or isinstance(labelled, int):
            return 0.0
        return f1(predicted, labelled)

    def card(self, space: Range) -> Card:
        answers = f"each label whose score is above 0.5, at most {MAX_WORDS}; a text may have none"
        return Card("torch.sigmoid(logits)", NAMED_CODE, answers)


def join_names(names: Iterable[str]) -> str:
    """Returns the label string of a set of names. Equal sets have equal strings.

    >>> join_names(["urgent", "refund", "urgent"]), join_names([])
    ('\\x1drefund\\x1durgent', '\\x1d')
    """
    return "".join(MARK + name for name in sorted({*names})) or MARK


def unpack_names(label: str) -> tuple[str, ...]:
    """Returns the names in the label string of a set.

    >>> unpack_names(join_names(["urgent", "refund"])), unpack_names(join_names([]))
    (('refund', 'urgent'), ())
    """
    return tuple(filter(None, label.split(MARK)))


def split_names(text: str) -> tuple[str, ...]:
    """Returns the names of a set that a person has written with commas.

    >>> split_names("refund, urgent"), split_names("")
    (('refund', 'urgent'), ())
    """
    return tuple(filter(None, map(str.strip, text.split(","))))


def f1(named: Collection[object], labelled: Collection[object]) -> float:
    """Returns the F1 of a predicted and a labelled set, in [0, 1]; 1 if both are empty.

    >>> f1(["refund"], ["refund", "urgent"]), f1([], [])
    (0.6666666666666666, 1.0)
    """
    num = len(named) + len(labelled)
    return 2 * len({*named} & {*labelled}) / num if num else 1.0


MULTILABEL: Final = SetKind()
