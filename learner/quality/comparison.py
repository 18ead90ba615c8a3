"""Compares two versions on the same labelled samples: a candidate with its parent, and with the anchor.

    right before, right after --> the numbers of lost and won samples: overall, of each class, of each cohort
    published version --> Anchor(version, which holdout samples were right) --> compared with every later candidate

A sample is lost if the older version predicted it rightly and the newer one does not; it is won in the opposite case.

**Cohorts.** A cohort is a group of classes that had their first labels at about the same time; the first of the
NUM_COHORTS cohorts has the oldest classes. The count of all samples hides that a few classes are forgotten. A single
class mostly has too few samples for a decision. A cohort is between the two.

**The anchor.** A candidate that is a little worse than its parent passes the gate. Fifty such candidates in a row would
ruin the accuracy. So each candidate is also compared with the anchor, the best version so far. The anchor does not
contain weights. It only contains, by the hashes of the holdout samples, which of them that version predicted rightly.
It is part of the checkpoint, and no larger than the holdout. Since then there may be more classes, and an old class may
have become harder to distinguish from a new one. So the candidate chooses among the anchor's classes only. If a sample
is lost even then, it was forgotten.

A published version becomes the anchor in two cases: it is at least as good on the anchor's samples, or these samples
are less than half of the current holdout. In the second case the stream has moved on, and an anchor that covers few
samples protects little. So accuracy may fall by the tolerance each time half of the holdout is renewed, and no faster.

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
from wire.recent import name_hash64

NUM_COHORTS = 5
"""The number of cohorts of classes, in the order of their first labels."""


class ScoredHoldout(NamedTuple):
    """The logits of a version for the holdout samples, and the targets of their labels."""

    samples: Sequence[Labelled]
    classes: tuple[str, ...]
    logits_NC: Tensor
    targets: TargetBatch

    @property
    def right_N(self) -> Tensor:
        """Whether the prediction for each sample is right, bool [N]."""
        return self.targets.right(self.logits_NC)

    @property
    def num_named(self) -> int:
        """The number of classes that are predicted for at least one sample."""
        return self.targets.num_named(self.logits_NC)


class Paired(NamedTuple):
    """Counts from a comparison of an older and a newer version on the same `num` samples.

    - `right`: the older version was right.
    - `lost`: the older version was right, and the newer version is wrong.
    - `won`: the older version was wrong, and the newer version is right.
    """

    num: int = 0
    right: int = 0
    lost: int = 0
    won: int = 0

    @property
    def accuracy_before(self) -> float:
        """The accuracy of the older version, in [0, 1]; 0 without samples."""
        return self.right / max(self.num, 1)

    @property
    def accuracy(self) -> float:
        """The accuracy of the newer version, in [0, 1]; 0 without samples."""
        return (self.right - self.lost + self.won) / max(self.num, 1)

    @property
    def drop(self) -> float:
        """The accuracy of the older version minus the accuracy of the newer one."""
        return (self.lost - self.won) / max(self.num, 1)

    @property
    def ties(self) -> int:
        """The number of samples on which both versions, or neither, were right."""
        return self.num - self.lost - self.won

    def __add__(self, other: "Paired") -> "Paired":  # type: ignore[override]
        return Paired(*map(sum, zip(self, other, strict=True)))


class EncoderTrial(NamedTuple):
    """The result of the trial of the current encoder against the previous one, on labels that neither head had learnt.

    `before` is the key of the previous encoder; `paired` has the counts.
    """

    before: str
    paired: Paired


NO_TRIAL: Final = EncoderTrial("", Paired())


def pair(before_N: Tensor, after_N: Tensor) -> Paired:
    """Counts samples by whether the older and the newer version are right, bool [N] each.

    >>> pair(torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    Paired(num=3, right=2, lost=1, won=1)
    """
    return Paired(*_outcomes(before_N, after_N).sum(dim=1).tolist())


def _outcomes(before_N: Tensor, after_N: Tensor) -> Tensor:
    """Returns the fields of `Paired` for each sample: counted, right, lost, won, bool [4, N]."""
    return torch.stack((torch.ones_like(before_N), before_N, before_N & ~after_N, after_N & ~before_N))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The counts over all samples, for each class in the order of the rows, and for each cohort, the oldest first."""

    overall: Paired = field(default_factory=Paired)
    classes: tuple[Paired, ...] = ()
    cohorts: tuple[Paired, ...] = ()


def compare(before_N: Tensor, after_N: Tensor, rows_N: Tensor, num_classes: int) -> Comparison:
    """Compares two versions by whether each is right, bool [N] each. `rows_N`: the row of each label, -1 for none.

    >>> before = torch.tensor([True, True, False])
    >>> after = torch.tensor([True, False, True])
    >>> compare(before, after, torch.tensor([0, 1, 1]), 2).classes
    (Paired(num=1, right=1, lost=0, won=0), Paired(num=2, right=1, lost=1, won=1))
    """
    outcomes_4N = _outcomes(before_N, after_N)
    known_N = rows_N >= 0
    # Rows are in the order of the first labels of the classes.
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
    """The hashes of the holdout samples that a version predicted rightly and wrongly. It had `num_classes` classes."""

    version: int = 0
    num_classes: int = 0
    right: list[int] = []
    wrong: list[int] = []

    def compare_with(self, samples: Sequence[Labelled], logits_NC: Tensor, targets: TargetBatch) -> Comparison:
        """Compares a newer version with the anchor, on those of `samples` that the anchor knows.

        `logits_NC` are the newer version's logits for `samples`. It chooses among the classes of the anchor only.
        """
        right = set(self.right)
        wrong = set(self.wrong)
        hashes = [sample_hash(sample) for sample in samples]
        known_N = torch.tensor([name in right or name in wrong for name in hashes], dtype=torch.bool)
        # The labels must be of classes that the anchor knows.
        known_N &= (targets.rows_N >= 0) & (targets.rows_N < self.num_classes)
        before_N = torch.tensor([name in right for name in hashes], dtype=torch.bool)[known_N]
        targets = targets.only(known_N).among(self.num_classes)
        after_N = targets.right(logits_NC[known_N, : self.num_classes])
        return compare(before_N, after_N, targets.rows_N, self.num_classes)

    def compare_shared(self, newer: "Anchor") -> Paired:
        """Compares a newer version with this one, on the samples that both anchors have.

        Each version has chosen among all of its own classes.

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

    def is_superseded(self, comparison: Comparison, num_known: int) -> bool:
        """Returns whether a newly published version replaces this anchor.

        `comparison` compares the version with the anchor. `num_known` is the number of holdout samples whose classes
        the version knows.
        """
        overall = comparison.overall
        return overall.won >= overall.lost or 2 * overall.num < num_known


def make_anchor(samples: Sequence[Labelled], right_N: Tensor, rows_N: Tensor, num_classes: int) -> Anchor:
    """Makes the anchor of a version from its predictions. Samples of classes that it does not know are left out."""
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
    """Returns the key of a sample in an anchor: the hash of its label and text."""
    return name_hash64(f"{sample.label}\n{sample.text}".encode())
