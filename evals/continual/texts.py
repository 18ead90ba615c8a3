"""Lists the contenders for texts. Those on one encoder get the same memory and as many gradients as `lifelong`.

lifelong        the learner as it runs in the service, predicting through the INT8 version that it would publish
lifelong-joint  the same on all stages at once, with a memory of all texts: the ceiling
naive, er, ...  the same blocks and a linear head by gradient, under one of the strategies; joint: `naive` on all
                stages at once
avalanche-...   the same blocks and head, trained by Avalanche

ridge           its fast head alone, on the encoder as it comes; ncm, lda, klda: other heads in closed form
frozen-...      a linear head by gradient on the encoder as it comes, under a strategy of ours or of Avalanche
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from torch import Tensor, nn

from evals.continual.contender import Contender
from evals.continual.frozen import FrozenEncoder, HeadAlone, OnVectors, frozen
from evals.continual.heads import KernelLda, NearestMean, StreamingLda
from evals.continual.recipes import (
    TOKEN_RECIPES,
    VECTOR_RECIPES,
    Recipes,
    avalanches,
    gradient_learner,
    vector_net,
)
from evals.continual.runner import Method, RunChoice, all_at_once
from evals.continual.top_blocks import OnTokens, TopBlocks
from evals.continual.whole_learner import WholeLearner
from evals.streams.benchmark import Benchmark, Texts
from learner.config import LearnerConfig
from learner.fast.ridge import RidgeHead
from learner.fast.rows import OnlineClassifier
from learner.memory import num_trainable
from learner.rounds.avalanche import find

HOLDOUT_PART = 0.2
"""The part of a buffer that may be the holdout."""

LIFELONG = "lifelong"
FROZEN = "frozen-"

Inner = Callable[[Recipes, nn.Module, RunChoice], Contender[Tensor]]
"""Makes a contender for rows of numbers, which trains the net by the recipes."""


def by_path(name: str) -> Method[Texts]:
    """Returns one of Avalanche's methods. Raises DataError for a name that is none."""
    imported = find(name.removeprefix(FROZEN))

    def inner(recipes: Recipes, net: nn.Module, choice: RunChoice) -> Contender[Tensor]:
        return avalanches(imported, recipes, net, choice)

    return _on_vectors(inner) if name.startswith(FROZEN) else _on_tokens(inner)


def _by_name(name: str) -> Inner:
    return lambda recipes, net, choice: gradient_learner(recipes[name], net, choice)


def _on_vectors(inner: Inner) -> Method[Texts]:
    """Returns the method that trains a linear head on the frozen encoder."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
        encoder = frozen(choice.learner, choice.encoder)
        return OnVectors(encoder, inner(VECTOR_RECIPES, _linear(encoder, benchmark, choice), choice))

    return Method(contender)


def _on_tokens(inner: Inner) -> Method[Texts]:
    """Returns the method that trains the blocks that `lifelong` trains, and a linear head."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnTokens:
        encoder = frozen(choice.learner, choice.encoder)
        head = _linear(encoder, benchmark, choice)
        net = TopBlocks(encoder, head, num_blocks=choice.learner.trainable_layers)
        return OnTokens(encoder.served.tokenizer, inner(TOKEN_RECIPES, net, choice), _texts_of(benchmark))

    return Method(contender)


def _linear(encoder: FrozenEncoder, benchmark: Benchmark[Texts], choice: RunChoice) -> nn.Module:
    return vector_net(encoder.served.config.d_model, len(benchmark.classes), choice.seed)


def _texts_of(benchmark: Benchmark[Texts]) -> Iterator[str]:
    for stage in benchmark.stages:
        yield from chain(stage.train.inputs, stage.test.inputs)


def _whole(benchmark: Benchmark[Texts], choice: RunChoice) -> WholeLearner:
    config = replace(choice.learner, seed=choice.seed)
    config = within(choice.buffer, config, num_classes=len(benchmark.classes), num_items=benchmark.num_items)
    return WholeLearner(config, choice.encoder, benchmark.classes, unlabelled=benchmark.unlabelled)


def within(buffer: int, config: LearnerConfig, *, num_classes: int, num_items: int) -> LearnerConfig:
    """Returns the settings with which replay memory and holdout together have at most `buffer` of the samples.

    The holdout says whether an encoder is adopted. So there is none where too little is left for the encoder to be
    trained on, and the encoder is frozen then.
    """
    num_holdout = min(config.holdout_samples, int(HOLDOUT_PART * buffer))
    if not num_trainable(buffer - num_holdout, num_items, num_classes):
        frozen = replace(config, trainable_layers=0, deeper_layers=(0, 0))
        return replace(frozen, replay_samples=buffer, holdout_share=0.0)
    return replace(
        config,
        replay_samples=buffer - num_holdout,
        holdout_samples=num_holdout,
        holdout_share=min(config.holdout_share, num_holdout / num_items),
        min_holdout=min(config.min_holdout, num_holdout),
    )


def _whole_with_all(benchmark: Benchmark[Texts], choice: RunChoice) -> WholeLearner:
    """Makes the learner with a memory of all texts and of the names of the classes, whatever the buffer is."""
    num_samples = benchmark.num_items + len(benchmark.classes)
    return _whole(benchmark, replace(choice, buffer=num_samples + choice.learner.holdout_samples))


def _head(make: Callable[[int, int], OnlineClassifier]) -> Method[Texts]:
    """Returns the method of a head on the vectors. `make` gets their width and the number of classes."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
        encoder = frozen(choice.learner, choice.encoder)
        head = make(encoder.served.config.d_model, len(benchmark.classes))
        return OnVectors(encoder, HeadAlone(head, lambda z_ND: z_ND))

    return Method(contender)


def _ridge(benchmark: Benchmark[Texts], choice: RunChoice) -> OnVectors:
    encoder = frozen(replace(choice.learner, seed=choice.seed), choice.encoder)
    head = RidgeHead(choice.learner.num_features, len(benchmark.classes), penalty=choice.learner.ridge)
    return OnVectors(encoder, HeadAlone(head, encoder.served.features))


STRATEGIES: dict[str, Method[Texts]] = {
    LIFELONG: Method(_whole),
    "lifelong-joint": Method(_whole_with_all, all_at_once),
    "joint": Method(_on_tokens(_by_name("naive")).make, all_at_once),
    **{name: _on_tokens(_by_name(name)) for name in TOKEN_RECIPES},
    "ridge": Method(_ridge),
    "ncm": _head(NearestMean),
    "lda": _head(StreamingLda),
    "klda": _head(KernelLda),
    f"{FROZEN}joint": Method(_on_vectors(_by_name("naive")).make, all_at_once),
    **{f"{FROZEN}{name}": _on_vectors(_by_name(name)) for name in VECTOR_RECIPES},
}
