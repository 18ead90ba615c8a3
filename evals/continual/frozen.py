"""Adapts contenders for rows of numbers to texts: they get the vectors of the pretrained encoder, which is not trained.

    text --served encoder--> z_D --> the contender: a head in closed form, or trained by gradient

The vectors are computed in the served precision, so two such contenders differ only in their heads.

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
from learner.fast.ridge import RidgeHead
from learner.fast.rows import OnlineClassifier
from learner.learner import Learner
from model.bert import load_encoder
from model.quantized import INT8
from model.strata import Strata


class FrozenEncoder:
    """The pretrained encoder in INT8. It caches the vectors of test texts, which are encoded in every test."""

    def __init__(self, config: LearnerConfig, encoder: str) -> None:
        knowledge = Learner(config, *load_encoder(encoder)).knowledge
        self.served: ServedEncoder = knowledge.fast_head.served
        assert isinstance(knowledge.strata, Strata), "load_encoder has returned one"
        self.strata = knowledge.strata
        """The same encoder in full precision, with the input scales of `served`."""
        self._tested: dict[str, Tensor] = {}

    def vectors(self, texts: Texts) -> Tensor:
        """Returns the vectors z_ND of texts that are encoded once, such as training texts."""
        return self.served.z_many(texts)

    def tested(self, texts: Texts) -> Tensor:
        """Returns the vectors z_ND of test texts. Texts that were encoded before come from the cache."""
        new = [text for text in dict.fromkeys(texts) if text not in self._tested]
        self._tested |= zip(new, self.served.z_many(new), strict=True)
        return torch.stack([self._tested[text] for text in texts])


@lru_cache(maxsize=1)
def frozen(config: LearnerConfig, encoder: str) -> FrozenEncoder:
    """Returns the frozen encoder. It is cached, because making it takes seconds.

    The random features depend on the seed in `config`.
    """
    return FrozenEncoder(config, encoder)


class VectorAdapter(Contender[Texts]):
    """A contender for texts that passes their vectors to a contender for rows of numbers."""

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
        """Counts the gradients of the head, and the passes through the encoder, which take most of the time."""
        return replace(self._inner.usage, forwards=self._num_encoded)


class HeadContender(Contender[Tensor]):
    """A closed-form head on `features` of the vectors. It stores sums and no samples."""

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


def ridge_on_frozen(config: LearnerConfig, encoder: str, *, num_classes: int) -> VectorAdapter:
    """Returns the exact head of all labels on the frozen encoder, with the random features of `config`."""
    made = frozen(config, encoder)
    head = RidgeHead(config.num_features, num_classes, penalty=config.ridge)
    return VectorAdapter(made, HeadContender(head, made.served.features))
