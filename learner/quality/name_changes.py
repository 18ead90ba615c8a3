"""What a version names differently from the reference, counted as its manifest says it.

    classes: rows of the head that both name, by the names of now --row_changes--> changed, new classes, right ones
    other kinds: outputs of both for the features of each, compared by the kind --output_changes--> the same
    another encoder: counts of the holdout and of its trial       --encoder_changes--> wins, ties, losses

A version from before two classes became one has two rows of one name: whichever it names, it names that class, the
first row of its name.

What counts as changed is said by the kind of the labels where an event may have several classes, or none
(`model.kinds.TargetBatch.changes`).

Shapes: N or B events, R features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.kinds import tensors_for
from learner.quality.comparison import Paired
from learner.quality.evaluation import ScoredVersion
from model.kinds import TargetBatch, best_rows, is_new, rows_in
from wire.kinds import kind_of
from wire.records import MAX_NEW_CLASSES, NameChanges, NewClass


def predicted_rows(version: ScoredVersion, phi_BR: Tensor) -> Tensor:
    """Returns the row that the version names for each event; -1 while it knows no class."""
    logits_BC = version.head.logits_of(phi_BR, len(version.classes))
    return rows_in(version.classes, version.classes)[best_rows(logits_BC).clamp(min=-1)]


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
    named_N = predicted_rows(version, phi_NR)
    is_new_C = is_new(version.classes, referred.classes)
    is_new_N = is_new_C[named_N]
    is_gone_C = torch.tensor([*(label in retired for label in referred.classes), False])
    is_gone_N = is_gone_C[referred_N]
    old_N = rows_in(version.classes, referred.classes)[referred_N]
    labels_N = rows_in(version.classes, labels)[: len(labels)]
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


def is_right(named_B: Tensor, version: ScoredVersion, labels: Sequence[str]) -> Tensor:
    """Returns whether the rows that `version` names are those of the labels, bool [B]."""
    return (named_B == rows_in(version.classes, labels)[: len(labels)]) & (named_B >= 0)


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
    """Returns the row of the class that each event is named (-1 if that is no class), and whether it is right.

    `numbers` are those of the events in the stream.
    """
    if not are_classes(labels):
        logits_BC = version.head.logits_of(phi_BR, len(version.classes))
        return torch.full((len(labels),), -1), _targets(version, labels, numbers).right(logits_BC)
    named_B = predicted_rows(version, phi_BR)
    return named_B, is_right(named_B, version, labels)


def output_changes(
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
    before_NK = referred.head.logits_of(before_NR, len(referred.classes))
    targets = _targets(version, labels, numbers)
    found = targets.changes(logits_NC, before_NK, version.classes, referred.classes, retired)
    is_new_C = is_new(version.classes, referred.classes)
    changes = NameChanges(
        texts=len(labels),
        between_old=found.between_old,
        to_new=found.to_new,
        new_classes=new_classes(version.classes, is_new_C, found.named_C, found.labelled_C),
        labels=len(labels),
    )
    return changes, targets.right(logits_NC), torch.zeros(len(labels), dtype=torch.bool)


def are_classes(labels: Sequence[str]) -> bool:
    """Whether each label is exactly one class: then rows are compared, and else outputs."""
    return not labels or kind_of(labels[0]).is_exclusive


def _targets(version: ScoredVersion, labels: Sequence[str], numbers: Sequence[int]) -> TargetBatch:
    return tensors_for(labels).targets(labels, list(map(str, numbers)), version.classes)
