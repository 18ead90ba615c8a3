"""The rows of the head that versions name, and those of labels, so that versions of other classes can be compared.

    classes by the names of now --canonical rows--> the first row of each name

A version from before two classes became one has two rows of one name: whichever it names, it names that class.

Rejected: comparing names in place of rows (a thousand texts would be a thousand look-ups for each version).

Shapes: N or B events, R features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.quality.comparison import best_rows
from learner.quality.evaluation import ScoredVersion
from wire.records import MAX_NEW_CLASSES, NewClass


def named_rows(version: ScoredVersion, phi_BR: Tensor) -> Tensor:
    """Returns the row that the version names for each event; -1 while it knows no class."""
    logits_BC = version.head.logits_of(phi_BR, len(version.classes))
    return rows_in(version, version.classes)[best_rows(logits_BC).clamp(min=-1)]


def rows_in(version: ScoredVersion, labels: Sequence[str]) -> Tensor:
    """Returns the row of each label in `version`, -1 where it has none, and one more -1, for no label."""
    rows = dict[str, int]()
    for row, label in enumerate(version.classes):
        rows.setdefault(label, row)
    return torch.tensor([*(rows.get(label, -1) for label in labels), -1])


def is_new(version: ScoredVersion, reference: ScoredVersion) -> Tensor:
    """Returns whether the reference lacks each class of `version`, bool [C]."""
    known = set(reference.classes)
    return torch.tensor([label not in known for label in version.classes], dtype=torch.bool)


def is_right(named_B: Tensor, version: ScoredVersion, labels: Sequence[str]) -> Tensor:
    """Returns whether the rows that `version` names are those of the labels, bool [B]."""
    return (named_B == rows_in(version, labels)[: len(labels)]) & (named_B >= 0)


def new_classes(classes: tuple[str, ...], is_new_C: Tensor, texts_C: Tensor, labels_C: Tensor) -> tuple[NewClass, ...]:
    """Returns the new classes that a text is named or labelled as, those of most texts first."""
    found = [
        NewClass(label=label, texts=texts, labels=num_labels)
        for label, is_new, texts, num_labels in zip(
            classes, is_new_C.tolist(), texts_C.tolist(), labels_C.tolist(), strict=True
        )
        if is_new and (texts or num_labels)
    ]
    return tuple(sorted(found, key=lambda each: (-each.texts, each.label))[:MAX_NEW_CLASSES])
