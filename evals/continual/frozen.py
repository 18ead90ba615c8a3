"""Adapts contenders for rows of numbers to texts by the encoder as it comes, which is not trained.

    text --served encoder--> z_D --> the contender: a head in closed form, or by gradient

Heads see the vectors that the served precision produces, so what differs between two rows of a table is the head.

Shape suffixes: N texts, D width.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from evals.continual.contender import Contender, Traits, Usage
from evals.streams.benchmark import Part, Texts
from learner.config import LearnerConfig
from learner.encoder.served import ServedEncoder
from learner.fast.rows import OnlineClassifier
from learner.learner import Learner
from model.bert import load_encoder
from model.quantized import INT8
from model.strata import Strata


class FrozenEncoder:
    """The pretrained encoder in INT8. It caches the vectors of test texts, which are tested again and again."""

    def __init__(self, config: LearnerConfig, encoder: str) -> None:
        known = Learner(config, *load_encoder(encoder)).knowledge
        self.served: ServedEncoder = known.fast_head.served
        assert isinstance(known.strata, Strata), "it was loaded as one"
        self.strata = known.strata
        """The same encoder in full precision; its inputs are scaled as `served` has them."""
        self._tested: dict[str, Tensor] = {}

    def vectors(self, texts: Texts) -> Tensor:
        """Encodes texts that come once; returns z_ND."""
        return self.served.z_many(texts)

    def tested(self, texts: Texts) -> Tensor:
        """Encodes test texts, of which there are few, through the cache; returns z_ND."""
        new = [text for text in dict.fromkeys(texts) if text not in self._tested]
        self._tested |= zip(new, self.served.z_many(new), strict=True)
        return torch.stack([self._tested[text] for text in texts])


@lru_cache(maxsize=1)
def frozen(config: LearnerConfig, encoder: str) -> FrozenEncoder:
    """Makes the encoder, which takes seconds. The seed of these settings draws the random features."""
    return FrozenEncoder(config, encoder)


class OnVectors(Contender[Texts]):
    """Gives the vectors of the texts to a contender for rows of numbers."""

    traits = Traits(precision=INT8, encoder="frozen")

    def __init__(self, encoder: FrozenEncoder, inner: Contender[Tensor]) -> None:
        self._encoder = encoder
        self._inner = inner
        self._num_encoded = 0

    def learn_many(self, part: Part[Texts]) -> None:
        self._num_encoded += len(part)
        self._inner.learn_many(Part(self._encoder.vectors(part.inputs), part.labels_N))

    def predict_many(self, inputs: Texts) -> Tensor:
        return self._inner.predict_many(self._encoder.tested(inputs))

    @property
    def usage(self) -> Usage:
        """Counts the gradients of the head, and the passes through the encoder, which are what takes the time."""
        return replace(self._inner.usage, forwards=self._num_encoded)


class HeadAlone(Contender[Tensor]):
    """A head in closed form on top of `features`. It stores sums and no samples."""

    traits = Traits(precision=INT8)
    usage = Usage()

    def __init__(self, head: OnlineClassifier, features: Callable[[Tensor], Tensor]) -> None:
        self._head = head
        self._features = features

    def learn_many(self, part: Part[Tensor]) -> None:
        labels = [str(label) for label in part.labels_N.tolist()]
        for label in dict.fromkeys(labels):
            self._head.admit(label)
        self._head.learn_many(self._features(part.inputs), labels)

    def predict_many(self, inputs: Tensor) -> Tensor:
        rows_N = self._head.predict_many(self._features(inputs)).argmax(dim=1)
        return torch.tensor([int(label) for label in self._head.classes])[rows_N]
