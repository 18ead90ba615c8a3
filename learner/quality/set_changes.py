"""What a version names differently from the reference, where labels are sets or scores: see `name_changes`.

    features, sets of the ring --version, reference--> named sets --> changed among old classes, new classes, lost

An event counts as changed between old classes where the two sets differ in a class that both know: only then can their
F1 differ, but for names of new classes. An event that is named a new class counts as one of those as well; where the
reference knows no class at all, every event does. A score counts as changed with the probability by which it differs,
by the number that is drawn for the event.

Shapes: N events in the ring, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.memory.targets import Targets, Values
from learner.quality.evaluation import ScoredVersion
from learner.quality.named_rows import is_new, is_right, named_rows, new_classes, rows_in
from wire.records import NameChanges
from wire.targets import kind_of


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
