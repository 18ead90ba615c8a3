"""What a version names differently from the reference, counted as its manifest says it.

    classes: rows of the head that both name, by the names of now --row_changes--> changed, new classes, right ones
    sets and scores: outputs of both for the features of each     --set_changes--> the same
    another encoder: counts of the holdout and of its trial       --encoder_changes--> wins, ties, losses

A version from before two classes became one has two rows of one name: whichever it names, it names that class, the
first row of its name.

If labels are sets, an event counts as changed between old classes if the two sets differ in a class that both know:
only then can their F1 differ, but for names of new classes. An event that is named a new class counts as one of those
as well; if the reference knows no class at all, every event does. A score counts as changed with the probability by
which it differs, by the number that is drawn for the event.

Rejected: comparing names in place of rows (a thousand texts would be a thousand look-ups for each version).

Shapes: N or B events, R features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.quality.comparison import Paired
from learner.quality.evaluation import ScoredVersion
from learner.targets import Targets, Values, best_rows
from wire.records import MAX_NEW_CLASSES, NameChanges, NewClass
from wire.targets import kind_of


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


def named(
    version: ScoredVersion, phi_BR: Tensor, labels: Sequence[str], numbers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Returns the row of the class that each event is named (-1 where that is no class), and whether it is right."""
    if not are_classes(labels):
        return torch.full((len(labels),), -1), _right_sets(version, phi_BR, labels, numbers)
    named_B = named_rows(version, phi_BR)
    return named_B, is_right(named_B, version, labels)


def _right_sets(version: ScoredVersion, phi_BR: Tensor, labels: Sequence[str], numbers: Sequence[int]) -> Tensor:
    """Returns whether `version` names each event rightly, bool [N]. `numbers` are those of the events in the stream."""
    logits_NC = version.head.logits_of(phi_BR, len(version.classes))
    return _targets(version, labels, numbers).right(logits_NC)


def set_changes(
    version: ScoredVersion,
    referred: ScoredVersion,
    phi_NR: tuple[Tensor, Tensor],
    labels: Sequence[str],
    numbers: Sequence[int],
    retired: frozenset[str],
) -> tuple[NameChanges, Tensor, Tensor]:
    """Returns the counts of changed names, and for each event whether `version` names it rightly, and False.

    `phi_NR` are the features of the events as each of the two sees them. A class that was retired is taken out of what
    the reference names. `numbers` are those of the events in the stream.
    """
    own_NR, before_NR = phi_NR
    logits_NC = version.head.logits_of(own_NR, len(version.classes))
    targets = _targets(version, labels, numbers)
    if targets.values is not None:
        changes = _value_changes(targets.values, logits_NC, referred, before_NR)
        return changes, targets.right(logits_NC), torch.zeros(len(labels), dtype=torch.bool)
    named_NC = logits_NC > 0
    referred_NK = referred.head.logits_of(before_NR, len(referred.classes)) > 0
    is_new_C = is_new(version, referred)
    before_NC = torch.zeros_like(named_NC)
    rows_K = rows_in(version, referred.classes)[:-1]
    is_known_K = rows_K >= 0
    before_NC[:, rows_K[is_known_K]] = referred_NK[:, is_known_K]
    is_gone_K = ~is_known_K & torch.tensor([label not in retired for label in referred.classes], dtype=torch.bool)
    is_changed_N = (named_NC & ~is_new_C != before_NC).any(dim=1) | referred_NK[:, is_gone_K].any(dim=1)
    labels_C = targets.sets.has_NC.sum(dim=0) if targets.sets else torch.zeros(len(is_new_C), dtype=torch.int64)
    changes = NameChanges(
        texts=len(labels),
        between_old=int(is_changed_N.sum()),
        to_new=int(named_NC[:, is_new_C].any(dim=1).sum()) if referred.classes else len(labels),
        new_classes=new_classes(version.classes, is_new_C, named_NC.sum(dim=0), labels_C),
        labels=len(labels),
    )
    return changes, targets.right(logits_NC), torch.zeros(len(labels), dtype=torch.bool)


def _value_changes(values: Values, logits_NC: Tensor, referred: ScoredVersion, phi_NR: Tensor) -> NameChanges:
    """Returns how many scores are others than those of the reference; all are new where that knows none."""
    num = len(logits_NC)
    if not referred.classes:
        return NameChanges(texts=num, to_new=num, labels=num)
    before_N = referred.head.logits_of(phi_NR, 1)[:, 0].clamp(0.0, 1.0)
    is_changed_N = values.draws_N < Values(before_N, values.draws_N).errors(logits_NC)
    return NameChanges(texts=num, between_old=int(is_changed_N.sum()), labels=num)


def are_classes(labels: Sequence[str]) -> bool:
    """Whether the labels are single classes."""
    return all(kind_of(label) == "class" for label in labels)


def _targets(version: ScoredVersion, labels: Sequence[str], numbers: Sequence[int]) -> Targets:
    return Targets.of(labels, list(map(str, numbers)), version.classes)
