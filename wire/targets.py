"""What a label says, as one string: the name of a class, or a set of names. Pure.

    "refund"            one class                    set_of(["refund", "urgent"])    a set of them, perhaps empty

Where labels wait, are compared, remembered or learnt, this is done by that string, as it is by the content of an event
(`wire.features`). No name holds the mark between names: records are checked for it.

Rejected: a list of names for every label (each memory of one class would hold a list, and be read as one).
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["class", "multilabel"]
"""What the label of an event is: one class, or a set of them."""

MARK: Final = "\x1d"
"""The group separator of ASCII: it stands before each name of a set."""

MAX_NAMES: Final = 64
"""Most names of a set."""


def set_of(names: Iterable[str]) -> str:
    """Returns the set of these names as one string: equal sets have equal ones.

    >>> set_of(["urgent", "refund", "urgent"]), set_of([])
    ('\\x1drefund\\x1durgent', '\\x1d')
    """
    return "".join(MARK + name for name in sorted({*names})) or MARK


def is_set(label: str) -> bool:
    """Whether a label is a set of names."""
    return label.startswith(MARK)


def names_of(label: str) -> tuple[str, ...]:
    """Returns the names of the classes that a label has.

    >>> names_of("refund"), names_of(set_of(["urgent", "refund"])), names_of(set_of([]))
    (('refund',), ('refund', 'urgent'), ())
    """
    return tuple(filter(None, label.split(MARK))) if is_set(label) else (label,)


def shown_label(label: str) -> str:
    """Returns a label for people.

    >>> shown_label("refund"), shown_label(set_of(["urgent", "refund"])), shown_label(set_of([]))
    ('refund', 'refund, urgent', '(none)')
    """
    return ", ".join(names_of(label)) or "(none)"


def problem_of_labels(names: tuple[str, ...]) -> str:
    """Returns what is wrong with a set of labels as it was sent; "" where nothing is.

    >>> problem_of_labels(("refund",)), problem_of_labels(("refund", " "))
    ('', '`labels` has a blank name: leave it out')
    """
    if len(names) > MAX_NAMES:
        return f"`labels` has {len(names)} names, at most {MAX_NAMES} are read"
    return "" if all(map(str.strip, names)) else "`labels` has a blank name: leave it out"
