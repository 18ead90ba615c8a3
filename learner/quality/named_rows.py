"""The rows of the head that versions name, and those of labels, so that versions of other classes can be compared.

    classes by the names of now --canonical rows--> the first row of each name

A version from before two classes became one has two rows of one name: whichever it names, it names that class.

Rejected: comparing names in place of rows (a thousand texts would be a thousand look-ups for each version).

Shapes: N or B events, R features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.memory.targets import best_rows
from learner.quality.comparison import Paired
from learner.quality.evaluation import ScoredVersion
from wire.records import MAX_NEW_CLASSES, NameChanges, NewClass


def named_rows(version: ScoredVersion, phi_BR: Tensor) -> Tensor:
    """Returns the row that the version names for each event; -1 while it knows no class."""
    logits_BC = version.head.logits_of(phi_BR, len(version.classes))
    return rows_in(version, version.classes)[best_rows(logits_BC).clamp(min=-1)]


def row_changes(
    version: ScoredVersion,
    referred: ScoredVersion,
    phi_NR: Tensor,
    labels: Sequence[str],
    referred_N: Tensor,
    retired: frozenset[str],
) -> tuple[NameChanges, Tensor, Tensor]:
    """Returns the counts of changed names, and for each event whether `version` names it rightly, and whether the
    reference names it as a class that was retired. `referred_N` are the rows that the reference names."""
    named_N = named_rows(version, phi_NR)
    is_new_C = is_new(version, referred)
    is_new_N = is_new_C[named_N]
    is_gone_C = torch.tensor([*(label in retired for label in referred.classes), False])
    is_gone_N = is_gone_C[referred_N]
    old_N = rows_in(version, referred.classes)[referred_N]
    labels_N = rows_in(version, labels)[: len(labels)]
    texts_C = named_N.bincount(minlength=len(is_new_C))
    labels_C = labels_N[labels_N >= 0].bincount(minlength=len(is_new_C))
    changes = NameChanges(
        texts=len(labels),
        between_old=int(((named_N != old_N) & ~is_new_N & ~is_gone_N).sum()),
        to_new=int(is_new_N.sum()),
        new_classes=new_classes(version.classes, is_new_C, texts_C, labels_C),
        labels=len(labels),
    )
    return changes, named_N == labels_N, is_gone_N


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


def encoder_changes(held: Paired, tried: Paired, *, reference: int = 0) -> NameChanges:
    """Returns what a manifest says of a version whose encoder was compared by these counts."""
    return NameChanges(
        reference=reference,
        held_wins=held.won,
        held_ties=held.ties,
        held_losses=held.lost,
        trial_wins=tried.won,
        trial_ties=tried.ties,
        trial_losses=tried.lost,
    )
