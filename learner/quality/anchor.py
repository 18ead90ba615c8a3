"""The anchor: which held-back samples a version published some time ago named rightly, so that a slow decline is seen.

    published --> Anchor(version, which held-back samples were right) --> every later candidate, on the same samples

A candidate that is a little worse than its parent passes the gate; fifty such candidates in a row would ruin the
accuracy. So each candidate is also compared with the best version that there was. The anchor keeps no weights: it keeps
for every held-back sample, by its hash, whether that version was right. It is part of the checkpoint, and no larger
than the holdout.

Since then there may be more classes, and an old class may rightly have become harder to tell from a new one. So the
candidate chooses among the classes of the anchor only: a sample that is lost even then was forgotten.

A published version becomes the anchor in two cases: it is at least as good on the anchor's samples, or these samples
are less than half of the holdout of now. In the second case the stream has moved on, and an anchor that covers little
protects little. So accuracy may fall by the tolerance each time that half of the holdout is renewed, and no faster.

Rejected: the weights of an old version (it would have to encode every new held-back sample), and the best accuracy of
each stage so far (the maximum of many measurements is partly luck).
"""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from learner.labels.recent import hash_of
from learner.memory.replay import Labelled
from learner.quality.comparison import Comparison, compare


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """Which samples `version`, of `num_classes` classes, named rightly and wrongly, by their hashes."""

    version: int = 0
    num_classes: int = 0
    right: list[int] = []
    wrong: list[int] = []

    def beside(self, samples: Sequence[Labelled], logits_NC: Tensor, rows_N: Tensor) -> Comparison:
        """Compares the anchor with a version that gives `samples` these logits, on the samples of the anchor."""
        right = set(self.right)
        wrong = set(self.wrong)
        hashes = [sample_hash(sample) for sample in samples]
        known_N = torch.tensor([name in right or name in wrong for name in hashes], dtype=torch.bool)
        known_N &= (rows_N >= 0) & (rows_N < self.num_classes)
        before_N = torch.tensor([name in right for name in hashes], dtype=torch.bool)[known_N]
        rows_N = rows_N[known_N]
        named_N = named(logits_NC[known_N, : self.num_classes])
        return compare(before_N, named_N == rows_N, rows_N, self.num_classes)

    def is_followed(self, beside: Comparison, num_known: int) -> bool:
        """Whether a published version becomes the anchor. It compares as `beside` and covers `num_known` samples."""
        return beside.overall.won >= beside.overall.lost or 2 * beside.overall.num < num_known


def anchor_of(samples: Sequence[Labelled], right_N: Tensor, rows_N: Tensor, num_classes: int) -> Anchor:
    """A version as an anchor. Samples of classes that it does not know are left out."""
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


def named(logits_NC: Tensor) -> Tensor:
    """The row with the highest logit of each sample; -2, which is no row, where there are no classes."""
    return logits_NC.argmax(dim=1) if logits_NC.shape[1] else torch.full((len(logits_NC),), -2)


def sample_hash(sample: Labelled) -> int:
    """The key of a sample in an anchor: the hash of its text and label."""
    return hash_of(f"{sample.label}\n{sample.text}".encode())
