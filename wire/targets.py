"""What a label says, as one string: the name of a class, a set of names, or a score. Pure.

    "refund"            one class                    set_of(["refund", "urgent"])    a set of them, perhaps empty
    sent_value(4.5)     a score as it was sent       unit_value(0.875)               its place in the range, in [0, 1]

Where labels wait, are compared, remembered or learnt, this is done by that string, as it is by the content of an event
(`wire.features`). No name holds the mark between names: records are checked for it.

Rejected: a list of names for every label (each memory of one class would hold a list, and be read as one).
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["class", "multilabel", "score"]
"""What the label of an event is: one class, a set of them, or a number."""

MARK: Final = "\x1d"
"""The group separator of ASCII: it stands before each name of a set."""

SENT_MARK: Final = "\x1c"
"""The file separator of ASCII stands before a score as it was sent."""

UNIT_MARK: Final = "\x1f"
"""The unit separator of ASCII stands before the place of a score in its range."""

MARKS: Final = (MARK, SENT_MARK, UNIT_MARK)

VALUE_ROW: Final = f"{UNIT_MARK}score"
"""The name of the only row of a head of scores."""

UNIT_BITS: Final = 1 << 32
"""Steps of the range of a score in a receipt."""

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
    """Returns the names of the classes that a label has; of a score, that of its row.

    >>> names_of("refund"), names_of(set_of(["urgent", "refund"])), names_of(set_of([]))
    (('refund',), ('refund', 'urgent'), ())
    """
    if is_value(label):
        return (VALUE_ROW,)
    return tuple(filter(None, label.split(MARK))) if is_set(label) else (label,)


def class_names(label: str) -> tuple[str, ...]:
    """Returns the names of the classes that a label has; a score has none."""
    return () if is_value(label) else names_of(label)


def shown_label(label: str) -> str:
    """Returns a label for people.

    >>> shown_label("refund"), shown_label(set_of(["urgent", "refund"])), shown_label(set_of([]))
    ('refund', 'refund, urgent', '(none)')
    """
    return label[1:] if is_value(label) else ", ".join(names_of(label)) or "(none)"


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names of a set of labels as people write it.

    >>> names_in("refund, urgent"), names_in("")
    (('refund', 'urgent'), ())
    """
    return tuple(filter(None, map(str.strip, text.split(","))))


def sent_value(value: float) -> str:
    """Returns a score as it was sent, as one string."""
    return f"{SENT_MARK}{value!r}"


def unit_value(unit: float) -> str:
    """Returns the place of a score in its range, in [0, 1], as one string: 0 is the lowest, 1 the highest."""
    return f"{UNIT_MARK}{unit!r}"


def is_value(label: str) -> bool:
    """Whether a label is a score."""
    return label.startswith((SENT_MARK, UNIT_MARK))


def value_of(label: str) -> float:
    """Returns the number of a score.

    >>> value_of(sent_value(4.5)), value_of(unit_value(0.875))
    (4.5, 0.875)
    """
    return float(label[1:])


def unit_bits(unit: float) -> int:
    """Returns the place of a score in its range as 32 bits; never 0, which stands for no score.

    >>> [unit_bits(unit) / UNIT_BITS for unit in (0.5, 1.0)], unit_bits(0.0)
    ([0.5, 0.9999999997671694], 1)
    """
    return min(max(int(unit * UNIT_BITS), 1), UNIT_BITS - 1)


def kind_of(label: str) -> Kind:
    """Returns the kind of a label."""
    if is_value(label):
        return "score"
    return "multilabel" if is_set(label) else "class"


def problem_of_labels(names: tuple[str, ...]) -> str:
    """Returns what is wrong with a set of labels as it was sent; "" where nothing is.

    >>> problem_of_labels(("refund",)), problem_of_labels(("refund", " "))
    ('', '`labels` has a blank name: leave it out')
    """
    if len(names) > MAX_NAMES:
        return f"`labels` has {len(names)} names, at most {MAX_NAMES} are read"
    return "" if all(map(str.strip, names)) else "`labels` has a blank name: leave it out"
