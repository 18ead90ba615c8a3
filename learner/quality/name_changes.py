"""Counts the predictions in which a version differs from the rollout's reference version (prediction churn).

The manifest has the counts. Churn: Milani Fard, Cormier, Canini and Gupta, "Launch and Iterate", NIPS 2016.

    labels are classes  --predicted rows of both, under current names--> row_changes:    changed, to new classes; right
    labels of other kinds --outputs of both, each from its features----> output_changes: the same
    another encoder     --counts on the holdout and in its trial-------> encoder_changes: wins, ties, losses

If two classes were merged since a version was made, the version has two rows with the same name. Both count as the
first row with this name.

If an event may have several classes or none, the kind of the labels defines which predictions differ
(`model.kinds.TargetBatch.changes`).

Shapes: N or B events, R features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.kinds import kind_tensors
from learner.quality.comparison import Paired
from learner.quality.evaluation import ScoredVersion
from model.kinds import TargetBatch, best_rows, is_new, rows_in
from wire.kinds import find_kind
from wire.records import MAX_NEW_CLASSES, NameChanges, NewClass


def predicted_rows(version: ScoredVersion, phi_BR: Tensor) -> Tensor:
    """Returns the row of the head that the version predicts for each event, int64 [B]; -1 if it has no classes yet."""
    logits_BC = version.head.head_logits(phi_BR, len(version.classes))
    return rows_in(version.classes, version.classes)[best_rows(logits_BC).clamp(min=-1)]


def row_changes(
    version: ScoredVersion,
    reference: ScoredVersion,
    phi_NR: Tensor,
    labels: Sequence[str],
    reference_N: Tensor,
    retired: frozenset[str],
) -> tuple[NameChanges, Tensor, Tensor]:
    """Compares the predictions of a version with those of the reference, if labels are classes.

    - `phi_NR`, `labels`: the features of the events for `version`, and their labels.
    - `reference_N`: the rows that the reference predicts.
    - `retired`: the retired classes.

    Returns the counts of changed predictions, and for each event, bool [N], whether the prediction of `version` is
    right, and whether the reference predicts a retired class.
    """
    predicted_N = predicted_rows(version, phi_NR)
    is_new_C = is_new(version.classes, reference.classes)
    is_new_N = is_new_C[predicted_N]
    # The appended False is for row -1: the reference had no classes.
    is_gone_C = torch.tensor([*(label in retired for label in reference.classes), False])
    is_gone_N = is_gone_C[reference_N]
    old_N = rows_in(version.classes, reference.classes)[reference_N]
    labels_N = rows_in(version.classes, labels)[: len(labels)]
    texts_C = predicted_N.bincount(minlength=len(is_new_C))
    labels_C = labels_N[labels_N >= 0].bincount(minlength=len(is_new_C))
    changes = NameChanges(
        texts=len(labels),
        between_old=int(((predicted_N != old_N) & ~is_new_N & ~is_gone_N).sum()),
        to_new=int(is_new_N.sum()),
        new_classes=new_classes(version.classes, is_new_C, texts_C, labels_C),
        labels=len(labels),
    )
    return changes, predicted_N == labels_N, is_gone_N


def is_right(predicted_B: Tensor, version: ScoredVersion, labels: Sequence[str]) -> Tensor:
    """Returns whether the predicted rows are the rows of the labels in `version`, bool [B]."""
    return (predicted_B == rows_in(version.classes, labels)[: len(labels)]) & (predicted_B >= 0)


def new_classes(classes: tuple[str, ...], is_new_C: Tensor, texts_C: Tensor, labels_C: Tensor) -> tuple[NewClass, ...]:
    """Returns the new classes that are predicted or labelled for some text, the most frequently predicted first.

    `texts_C` and `labels_C` are the numbers of predictions and of labels of each class.
    """
    seen = [
        NewClass(label=label, texts=texts, labels=num_labels)
        for label, is_new, texts, num_labels in zip(
            classes, is_new_C.tolist(), texts_C.tolist(), labels_C.tolist(), strict=True
        )
        if is_new and (texts or num_labels)
    ]
    return tuple(sorted(seen, key=lambda new_class: (-new_class.texts, new_class.label))[:MAX_NEW_CLASSES])


def encoder_changes(holdout_result: Paired, trial_result: Paired, *, reference: int = 0) -> NameChanges:
    """Returns the manifest record of a version with another encoder than the reference, from these comparisons."""
    return NameChanges(
        reference=reference,
        held_wins=holdout_result.won,
        held_ties=holdout_result.ties,
        held_losses=holdout_result.lost,
        trial_wins=trial_result.won,
        trial_ties=trial_result.ties,
        trial_losses=trial_result.lost,
    )


def predict(
    version: ScoredVersion, phi_BR: Tensor, labels: Sequence[str], numbers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Returns the row that the version predicts for each event, and whether the prediction is right.

    The row is -1 if labels are not classes. `numbers` are the positions of the events in the stream.
    """
    if not are_classes(labels):
        logits_BC = version.head.head_logits(phi_BR, len(version.classes))
        return torch.full((len(labels),), -1), _targets(version, labels, numbers).right(logits_BC)
    predicted_B = predicted_rows(version, phi_BR)
    return predicted_B, is_right(predicted_B, version, labels)


def output_changes(
    version: ScoredVersion,
    reference: ScoredVersion,
    phi_NR: tuple[Tensor, Tensor],
    labels: Sequence[str],
    numbers: Sequence[int],
    retired: frozenset[str],
) -> tuple[NameChanges, Tensor, Tensor]:
    """Compares the outputs of a version with those of the reference, if labels are sets or scores.

    - `phi_NR`: the features of the events, for `version` and for the reference.
    - `numbers`: the positions of the events in the stream.
    - `retired`: the retired classes, which are removed from the reference's predictions.

    Returns the counts of changed predictions, and for each event, bool [N], whether the prediction of `version` is
    right, and False, since no prediction consists of retired classes only.
    """
    own_NR, before_NR = phi_NR
    logits_NC = version.head.head_logits(own_NR, len(version.classes))
    before_NK = reference.head.head_logits(before_NR, len(reference.classes))
    targets = _targets(version, labels, numbers)
    counts = targets.changes(logits_NC, before_NK, version.classes, reference.classes, retired)
    is_new_C = is_new(version.classes, reference.classes)
    changes = NameChanges(
        texts=len(labels),
        between_old=counts.between_old,
        to_new=counts.to_new,
        new_classes=new_classes(version.classes, is_new_C, counts.named_C, counts.labelled_C),
        labels=len(labels),
    )
    return changes, targets.right(logits_NC), torch.zeros(len(labels), dtype=torch.bool)


def are_classes(labels: Sequence[str]) -> bool:
    """Returns whether each label is exactly one class. Then the predicted rows are compared, otherwise the outputs."""
    return not labels or find_kind(labels[0]).is_exclusive


def _targets(version: ScoredVersion, labels: Sequence[str], numbers: Sequence[int]) -> TargetBatch:
    return kind_tensors(labels).targets(labels, list(map(str, numbers)), version.classes)
