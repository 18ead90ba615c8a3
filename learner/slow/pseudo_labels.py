"""Pseudo-labels of texts that nobody labelled, so that a slow round can train the encoder on them (self-training).

    z of the texts --softmax over the class means--> shares of each class --> means of labels and guesses --again-->

Lee 2013 (pseudo-labels), with the means refined by expectation and maximization. Every class mean keeps the weight of
an average class in guesses, so that one which the texts do not show stays where its labels put it, and one that they
show often cannot drift. A mean that lies in everybody's way takes too many texts: classes are balanced, but by a factor
of two at most, for streams are not even. They train the encoder and nothing else: the head is made of labels alone.

Rejected: balancing without a bound (Sinkhorn; CLINC150 as the encoder comes, 5 labels a class: 91.9 % of the guesses
right instead of 91.1, but 53 instead of 90.8 where the texts show half of the classes; without balancing 90.2 and 91.6,
and 87.0 instead of 86.2 where class sizes fall as Zipf's), label propagation over neighbours (88.9 %, and it takes a
graph), and a threshold (the loss of the slow tier already pays little heed to what it doubts).

Shapes: U texts, C classes, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from learner.export import ServedEncoder

SCALE = 50.0
"""Logits are this times a cosine."""

MAX_PRIOR = 2.0
"""No class is taken to be more than so many times as frequent, or as rare, as its share of the texts would say."""

ROUNDS = 4
BALANCINGS = 5
"""Of refining the means, and in each of balancing the classes."""


class PseudoLabels:
    """The guesses for some texts under one encoder, made in units: `step` until `progress` is 1, then `rows`."""

    def __init__(self, texts: Sequence[str], means_CD: Tensor, *, unit: int) -> None:
        self._texts = texts
        self._means_CD = means_CD
        self._unit = unit
        self._z_units: list[Tensor] = []
        self.rows: dict[str, int] = {}
        """The row of each text, once all are guessed."""

    def step(self, served: ServedEncoder) -> None:
        """Encode a unit of texts, and after the last guess them all."""
        first = self._unit * len(self._z_units)
        self._z_units.append(served.z_many(self._texts[first : first + self._unit]))
        if self.progress == 1.0:
            rows_U = guess(torch.cat(self._z_units), self._means_CD)
            self.rows = dict(zip(self._texts, rows_U.tolist(), strict=True))

    @property
    def progress(self) -> float:
        """The share of the texts that are encoded, in [0, 1]."""
        return min(self._unit * len(self._z_units) / max(len(self._texts), 1), 1.0)


def guess(z_UD: Tensor, means_CD: Tensor) -> Tensor:
    """The rows int64 [U] of the most likely classes, from unit vectors and the unit means of labelled samples.

    >>> guess(torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [1, 0]
    """
    even = len(z_UD) / len(means_CD)
    refined_CD = means_CD
    prior_C = torch.ones(len(means_CD))
    for _ in range(ROUNDS):
        logits_UC = SCALE * z_UD @ refined_CD.T
        for _ in range(BALANCINGS):
            shares_UC = torch.softmax(logits_UC + prior_C.log(), dim=1)
            prior_C = (prior_C * even / shares_UC.sum(dim=0).clamp(min=1e-6)).clamp(1 / MAX_PRIOR, MAX_PRIOR)
        shares_UC = torch.softmax(logits_UC + prior_C.log(), dim=1)
        refined_CD = functional.normalize(even * means_CD + shares_UC.T @ z_UD, dim=1)
    return shares_UC.argmax(dim=1)
