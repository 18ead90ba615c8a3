"""Compares two versions on the same labelled samples, by counts: a candidate with its parent, and with the anchor.

    right before, right after --> how many were lost, how many won: overall, by class, by cohort
    published --> Anchor(version, which holdout samples were right) --> every later candidate, on the same samples

A cohort is a group of classes that came at about the same time: the first of the NUM_COHORTS holds the oldest classes.
All samples together hide that a few classes are forgotten, and a single class mostly has too few samples to say
anything; a cohort lies between the two.

A candidate that is a little worse than its parent passes the gate; fifty such candidates in a row would ruin the
accuracy. So each candidate is also compared with the anchor, the best version that there was. The anchor keeps no
weights: it keeps for every holdout sample, by its hash, whether that version was right. It is part of the checkpoint,
and no larger than the holdout. Since then there may be more classes, and an old class may rightly have become harder to
tell from a new one. So the candidate chooses among the classes of the anchor only: a sample that is lost even then was
forgotten.

A published version becomes the anchor in two cases: it is at least as good on the anchor's samples, or these samples
are less than half of the holdout of now. In the second case the stream has moved on, and an anchor that covers little
protects little. So accuracy may fall by the tolerance each time that half of the holdout is renewed, and no faster.

Shapes: N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import torch
from torch import Tensor

from learner.samples import Labelled
from model.kinds import TargetBatch
from wire.recent import hash_of

NUM_COHORTS = 5
"""Number of groups of classes, by when they came."""


class ScoredHoldout(NamedTuple):
    """The logits that a version gives the holdout samples, and what their labels say of its classes."""

    samples: Sequence[Labelled]
    classes: tuple[str, ...]
    logits_NC: Tensor
    targets: TargetBatch

    @property
    def right_N(self) -> Tensor:
        """Whether each sample is named rightly."""
        return self.targets.right(self.logits_NC)

    @property
    def num_named(self) -> int:
        """How many classes are named for some sample."""
        return self.targets.num_named(self.logits_NC)


class Paired(NamedTuple):
    """Counts of `num` samples: the older version had `right` of them right, the newer one `lost` and `won` some."""

    num: int = 0
    right: int = 0
    lost: int = 0
    won: int = 0

    @property
    def accuracy_before(self) -> float:
        """Accuracy of the older version, in [0, 1]; 0 without samples."""
        return self.right / max(self.num, 1)

    @property
    def accuracy(self) -> float:
        """Accuracy of the newer version, in [0, 1]; 0 without samples."""
        return (self.right - self.lost + self.won) / max(self.num, 1)

    @property
    def drop(self) -> float:
        """How much lower the accuracy of the newer version is."""
        return (self.lost - self.won) / max(self.num, 1)

    @property
    def ties(self) -> int:
        """Samples that both versions, or neither, had right."""
        return self.num - self.lost - self.won

    def __add__(self, other: "Paired") -> "Paired":  # type: ignore[override]
        return Paired(*map(sum, zip(self, other, strict=True)))


class EncoderTrial(NamedTuple):
    """How the encoder in use did beside the one before, whose key is `before`, on labels that neither had learnt."""

    before: str
    paired: Paired


NO_TRIAL: Final = EncoderTrial("", Paired())


def pair(before_N: Tensor, after_N: Tensor) -> Paired:
    """Counts which samples were right (bool) before and after.

    >>> pair(torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    Paired(num=3, right=2, lost=1, won=1)
    """
    return Paired(*_outcomes(before_N, after_N).sum(dim=1).tolist())


def _outcomes(before_N: Tensor, after_N: Tensor) -> Tensor:
    """Returns whether each sample counts as one, was right, is lost, is won, bool [4, N]."""
    return torch.stack((torch.ones_like(before_N), before_N, before_N & ~after_N, after_N & ~before_N))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The counts of all samples, of each row of the head, and of each cohort, the oldest first."""

    overall: Paired = field(default_factory=Paired)
    classes: tuple[Paired, ...] = ()
    cohorts: tuple[Paired, ...] = ()


def compare(before_N: Tensor, after_N: Tensor, rows_N: Tensor, num_classes: int) -> Comparison:
    """Compares which samples were right (bool) before and after. `rows_N`: the row of each label, -1 for none.

    >>> before = torch.tensor([True, True, False])
    >>> after = torch.tensor([True, False, True])
    >>> compare(before, after, torch.tensor([0, 1, 1]), 2).classes
    (Paired(num=1, right=1, lost=0, won=0), Paired(num=2, right=1, lost=1, won=1))
    """
    outcomes_4N = _outcomes(before_N, after_N)
    known_N = rows_N >= 0
    cohorts_N = rows_N * NUM_COHORTS // max(num_classes, 1)
    return Comparison(
        overall=pair(before_N, after_N),
        classes=_count_groups(outcomes_4N[:, known_N], rows_N[known_N], num_classes),
        cohorts=_count_groups(outcomes_4N[:, known_N], cohorts_N[known_N], NUM_COHORTS),
    )


def _count_groups(outcomes_4N: Tensor, groups_N: Tensor, num_groups: int) -> tuple[Paired, ...]:
    counts_4G = torch.zeros(4, num_groups, dtype=torch.int64).index_add_(1, groups_N, outcomes_4N.long())
    return tuple(Paired(*counts) for counts in counts_4G.T.tolist())


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """Which samples `version`, of `num_classes` classes, named rightly and wrongly, by their hashes."""

    version: int = 0
    num_classes: int = 0
    right: list[int] = []
    wrong: list[int] = []

    def compare_with(self, samples: Sequence[Labelled], logits_NC: Tensor, targets: TargetBatch) -> Comparison:
        """Compares the anchor with a version that gives `samples` these logits, on the samples of the anchor."""
        right = set(self.right)
        wrong = set(self.wrong)
        hashes = [sample_hash(sample) for sample in samples]
        known_N = torch.tensor([name in right or name in wrong for name in hashes], dtype=torch.bool)
        known_N &= (targets.rows_N >= 0) & (targets.rows_N < self.num_classes)
        before_N = torch.tensor([name in right for name in hashes], dtype=torch.bool)[known_N]
        targets = targets.only(known_N).among(self.num_classes)
        after_N = targets.right(logits_NC[known_N, : self.num_classes])
        return compare(before_N, after_N, targets.rows_N, self.num_classes)

    def compare_shared(self, newer: "Anchor") -> Paired:
        """Compares with a newer version on the samples that both know, each text once: each version chose among all
        the classes that it has.

        >>> Anchor(right=[1, 2, 3], wrong=[4]).compare_shared(Anchor(right=[2, 3, 4], wrong=[1, 5]))
        Paired(num=4, right=3, lost=1, won=1)
        """
        right = set(self.right)
        wrong = set(self.wrong)
        lost = right.intersection(newer.wrong)
        won = wrong.intersection(newer.right)
        num_right = len(lost) + len(right.intersection(newer.right))
        num_wrong = len(won) + len(wrong.intersection(newer.wrong))
        return Paired(num_right + num_wrong, num_right, len(lost), len(won))

    def is_superseded(self, beside: Comparison, num_known: int) -> bool:
        """Whether a published version becomes the anchor. It compares as `beside` and covers `num_known` samples."""
        return beside.overall.won >= beside.overall.lost or 2 * beside.overall.num < num_known


def make_anchor(samples: Sequence[Labelled], right_N: Tensor, rows_N: Tensor, num_classes: int) -> Anchor:
    """Returns a version as an anchor. Samples of classes that it does not know are left out."""
    known = [
        (sample_hash(sample), is_right)
        for sample, is_right, row in zip(samples, right_N.tolist(), rows_N.tolist(), strict=True)
        if row >= 0
    ]
    return Anchor(
        num_classes=num_classes,
        right=[name for name, is_right in known if is_right],
        wrong=[name for name, is_right in known if not is_right],
    )


def sample_hash(sample: Labelled) -> int:
    """Returns the key of a sample in an anchor: the hash of its text and label."""
    return hash_of(f"{sample.label}\n{sample.text}".encode())
