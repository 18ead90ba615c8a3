"""Lists the contenders for texts: the learner as it runs in the service, and heads on its frozen encoder.

    lifelong    the whole learner, fed with answers and labels, predicting through the INT8 version it would publish
    joint       a linear head on the frozen encoder by gradient descent, all stages at once; lifelong-joint: the
                whole learner, all stages at once
    ridge       its fast head alone, on the frozen encoder; ncm, lda, klda: other heads in closed form
    er, ...     a linear head by gradient on the frozen encoder, under one of the strategies

Heads see the vectors that the served precision produces, so what differs between two rows is the head.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from evals.continual.avalanche import find
from evals.continual.heads.kernel_lda import KernelLda
from evals.continual.heads.lda import StreamingLda
from evals.continual.heads.nearest_mean import NearestMean
from evals.continual.recipes import VECTOR_RECIPES, avalanches, gradient_learner, vector_net
from evals.continual.runner import Method, RunChoice, all_at_once
from evals.streams.benchmark import Benchmark, Contender, Part
from learner.config import LearnerConfig
from learner.export import ServedEncoder
from learner.fast.head import Head
from learner.fast.ridge import RidgeHead
from learner.learner import Learner
from learner.release.candidate import Candidate, Maker
from learner.stopwatch import Stopwatch
from model.minilm import load_encoder
from model.quantized import INT8
from wire.records import Answer, Feedback

BATCH = 32
"""How many labels the learner gets at once, as from one poll of the service."""

Texts = list[str]


class WholeLearner:
    """The service's learner. A slow round that is due runs to its end before the next labels come.

    `num_items` is the length of the stream. After the stream the learner is idle for long enough to do all that it does
    when idle. Before the stream come answers to `unlabelled`, which never get a label.
    """

    precision = INT8

    def __init__(
        self,
        config: LearnerConfig,
        encoder: str,
        classes: tuple[str, ...],
        *,
        num_items: int,
        unlabelled: Texts | None = None,
    ) -> None:
        self._learner = Learner(config, *load_encoder(encoder))
        self._maker = Maker(config)
        self._classes = classes
        self._ids = {name: place for place, name in enumerate(classes)}
        self._num_learnt = 0
        self._num_items = num_items
        self._live: Candidate | None = None
        self._learner.learn([_answer(f"unlabelled-{number}", text) for number, text in enumerate(unlabelled or ())], {})

    def learn_many(self, part: Part[Texts]) -> None:
        for batch in part.batches(BATCH):
            self._learner.learn(self._records(batch), {})
            self._work(is_idle=False)
        self._work(is_idle=self._num_learnt == self._num_items)
        self._live = self._maker.make(self._learner.knowledge, Stopwatch())
        self._maker.published(self._live, self._learner)

    def predict_many(self, inputs: Texts) -> Tensor:
        live = self._live
        if live is None or not live.version.classes:
            return torch.full((len(inputs),), -1)
        rows_N = live.version.head.logits(live.version.served.z_many(inputs), len(live.version.classes)).argmax(dim=1)
        return torch.tensor([self._ids[name] for name in live.version.classes])[rows_N]

    @property
    def num_bytes(self) -> int:
        return self._learner.replay.num_bytes

    def _work(self, *, is_idle: bool) -> None:
        learner = self._learner
        learner.tick(is_idle=is_idle)
        while learner.has_work or (is_idle and not learner.is_rested):
            learner.tick(is_idle=is_idle)

    def _records(self, batch: Part[Texts]) -> list[Answer | Feedback]:
        records: list[Answer | Feedback] = []
        for text, label in zip(batch.inputs, batch.labels_N.tolist(), strict=True):
            event_id = f"{self._num_learnt}"
            records += (_answer(event_id, text), Feedback(event_id=event_id, label=self._classes[label]))
            self._num_learnt += 1
        return records


def _answer(event_id: str, text: str) -> Answer:
    return Answer(
        event_id=event_id,
        text=text,
        label=None,
        score=0.0,
        weights_version=0,
        arm="stable",
        precision=INT8,
        rollout_revision=0,
    )


class FrozenEncoder:
    """The pretrained encoder in INT8. It caches the vectors of test texts, which are tested again and again."""

    def __init__(self, config: LearnerConfig, encoder: str) -> None:
        self.served: ServedEncoder = Learner(config, *load_encoder(encoder)).tier.served
        self._tested: dict[str, Tensor] = {}

    def vectors(self, texts: Texts) -> Tensor:
        """Encodes texts that come once; returns z_ND."""
        return self.served.z_many(texts)

    def tested(self, texts: Texts) -> Tensor:
        """Encodes test texts, of which there are few, through the cache; returns z_ND."""
        new = [text for text in dict.fromkeys(texts) if text not in self._tested]
        self._tested |= zip(new, self.served.z_many(new), strict=True)
        return torch.stack([self._tested[text] for text in texts])


class OnVectors:
    """Adapts a contender for rows of numbers to texts by the frozen encoder."""

    precision = INT8

    def __init__(self, encoder: FrozenEncoder, inner: Contender[Tensor]) -> None:
        self._encoder = encoder
        self._inner = inner

    def learn_many(self, part: Part[Texts]) -> None:
        self._inner.learn_many(Part(self._encoder.vectors(part.inputs), part.labels_N))

    def predict_many(self, inputs: Texts) -> Tensor:
        return self._inner.predict_many(self._encoder.tested(inputs))

    @property
    def num_bytes(self) -> int:
        return self._inner.num_bytes


class HeadAlone:
    """A head on top of `features`. It stores no samples."""

    precision = INT8
    num_bytes = 0

    def __init__(self, head: Head, features: Callable[[Tensor], Tensor]) -> None:
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


def _whole(benchmark: Benchmark[Texts], choice: RunChoice) -> WholeLearner:
    config = replace(choice.learner, seed=choice.seed)
    if choice.buffer is not None:
        config = replace(config, replay_samples=choice.buffer)
    num_items = sum(len(stage.train) for stage in benchmark.stages)
    return WholeLearner(config, choice.encoder, benchmark.classes, num_items=num_items, unlabelled=benchmark.unlabelled)


def _head(make: Callable[[int, int], Head]) -> Method[Texts]:
    """Returns the method of a head on the vectors. `make` gets their width and the number of classes."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
        encoder = frozen(choice.learner, choice.encoder)
        head = make(encoder.served.config.d_model, len(benchmark.classes))
        return OnVectors(encoder, HeadAlone(head, lambda z_ND: z_ND))

    return Method(contender)


def _ridge(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
    encoder = frozen(replace(choice.learner, seed=choice.seed), choice.encoder)
    head = RidgeHead(choice.learner.num_features, len(benchmark.classes), ridge=choice.learner.ridge)
    return OnVectors(encoder, HeadAlone(head, encoder.served.features))


def _by_gradient(name: str) -> Method[Texts]:
    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
        encoder = frozen(choice.learner, choice.encoder)
        return OnVectors(encoder, gradient_learner(VECTOR_RECIPES[name], _linear(encoder, benchmark, choice), choice))

    return Method(contender)


def by_path(name: str) -> Method[Texts]:
    """Returns one of Avalanche's methods, on the vectors. Raises DataError for a name that is none."""
    imported = find(name)

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
        encoder = frozen(choice.learner, choice.encoder)
        net = _linear(encoder, benchmark, choice)
        return OnVectors(encoder, avalanches(imported, VECTOR_RECIPES, net, choice))

    return Method(contender)


def _linear(encoder: FrozenEncoder, benchmark: Benchmark[Texts], choice: RunChoice) -> nn.Module:
    return vector_net(encoder.served.config.d_model, len(benchmark.classes), choice.seed)


@lru_cache(maxsize=1)
def frozen(config: LearnerConfig, encoder: str) -> FrozenEncoder:
    """Makes the encoder, which takes seconds. The seed of these settings draws the random features."""
    return FrozenEncoder(config, encoder)


STRATEGIES: dict[str, Method[Texts]] = {
    "lifelong": Method(_whole),
    "lifelong-joint": Method(_whole, all_at_once),
    "joint": Method(_by_gradient("naive").make, all_at_once),
    "ridge": Method(_ridge),
    "ncm": _head(NearestMean),
    "lda": _head(StreamingLda),
    "klda": _head(KernelLda),
} | {name: _by_gradient(name) for name in VECTOR_RECIPES}
