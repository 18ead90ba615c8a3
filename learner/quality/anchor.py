"""The anchor: what a version published some time ago named rightly, so that a slow decline is seen.

    published --> Anchor(version, which held-back samples were right) --> every later candidate, on the same samples

A candidate that is a little worse than its parent passes; fifty in a row would end in ruin. So each is also compared
with the best version that there was. No weights are kept for it: for every held-back sample the anchor knows whether
that version was right, by the hash of the sample. It is part of the checkpoint, and bounded by the held-back memory.

Since then there may be more classes, and an old one may rightly have become harder to tell from a new one. So the
candidate chooses among the classes that the anchor had: what is then lost was forgotten.

A published version becomes the anchor when it is at least as good on the anchor's samples, or when these are less than
half of what is held back now: the stream has moved on, and an anchor that covers little protects little. So accuracy
may fall by the tolerance each time that the held-back samples are renewed by half, and no faster.

Rejected: the weights of an old version (it would have to encode every new held-back sample), and the best accuracy of
each stage so far (the best of many looks is partly luck).
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
        """What became of the anchor's samples under a version that gives all `samples` these logits."""
        right = set(self.right)
        wrong = set(self.wrong)
        hashes = [sample_hash(sample) for sample in samples]
        known_N = torch.tensor([it in right or it in wrong for it in hashes], dtype=torch.bool)
        known_N &= (rows_N >= 0) & (rows_N < self.num_classes)
        before_N = torch.tensor([it in right for it in hashes], dtype=torch.bool)[known_N]
        rows_N = rows_N[known_N]
        named_N = named(logits_NC[known_N, : self.num_classes])
        return compare(before_N, named_N == rows_N, rows_N, self.num_classes)

    def is_followed(self, beside: Comparison, num_known: int) -> bool:
        """Whether a published version takes its place: it compares like `beside` and knows `num_known` samples."""
        return beside.overall.won >= beside.overall.lost or 2 * beside.overall.num < num_known


def anchor_of(samples: Sequence[Labelled], right_N: Tensor, rows_N: Tensor, num_classes: int) -> Anchor:
    """What a version of these classes would be as an anchor; samples of classes that it does not know are left out."""
    known = [
        (sample_hash(sample), is_right)
        for sample, is_right, row in zip(samples, right_N.tolist(), rows_N.tolist(), strict=True)
        if row >= 0
    ]
    return Anchor(
        num_classes=num_classes,
        right=[it for it, is_right in known if is_right],
        wrong=[it for it, is_right in known if not is_right],
    )


def named(logits_NC: Tensor) -> Tensor:
    """The row with the highest logit, -2 where there are no classes: no row at all."""
    return logits_NC.argmax(dim=1) if logits_NC.shape[1] else torch.full((len(logits_NC),), -2)


def sample_hash(sample: Labelled) -> int:
    """Under which a sample is remembered: its text and its label."""
    return hash_of(f"{sample.label}\n{sample.text}".encode())
