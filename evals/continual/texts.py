"""Lists the contenders for texts. Contenders with the same encoder get the same memory and gradients as `lifelong`.

lifelong        the learner as it runs in the service; predicts through the INT8 version that it would publish
lifelong-joint  the same on all stages at once, with a memory of all texts: the upper bound
naive, er, ...  the same blocks and a linear head, trained by gradient with one of the strategies
joint           `naive` on all stages at once
avalanche-...   the same blocks and head, trained by Avalanche

ridge           the learner's fast head only, on the frozen pretrained encoder
ncm, lda, klda  other closed-form heads on the frozen encoder
frozen-...      a linear head on the frozen encoder, trained by gradient with a strategy of ours or of Avalanche
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from torch import Tensor, nn

from evals.continual.contender import Contender
from evals.continual.frozen import FrozenEncoder, HeadContender, VectorAdapter, frozen, ridge_on_frozen
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
from evals.continual.top_blocks import TokenAdapter, TopBlocks
from evals.continual.whole_learner import WholeLearner
from evals.streams.benchmark import Benchmark, Texts
from learner.config import LearnerConfig
from learner.fast.rows import OnlineClassifier
from learner.memory import num_trainable
from learner.rounds.avalanche import find

HOLDOUT_PART = 0.2
"""The fraction of the buffer that may be used as the holdout."""

LIFELONG = "lifelong"
FROZEN = "frozen-"

Inner = Callable[[Recipes, nn.Module, RunChoice], Contender[Tensor]]
"""Returns a contender for rows of numbers, which trains the net according to the recipes."""


def by_path(name: str) -> Method[Texts]:
    """Returns the method of an Avalanche strategy. Raises DataError for an unknown name."""
    imported = find(name.removeprefix(FROZEN))

    def inner(recipes: Recipes, net: nn.Module, choice: RunChoice) -> Contender[Tensor]:
        return avalanches(imported, recipes, net, choice)

    return _on_vectors(inner) if name.startswith(FROZEN) else _on_tokens(inner)


def _by_name(name: str) -> Inner:
    return lambda recipes, net, choice: gradient_learner(recipes[name], net, choice)


def _on_vectors(inner: Inner) -> Method[Texts]:
    """Returns the method that trains a linear head on the frozen encoder."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> VectorAdapter:
        encoder = frozen(choice.learner, choice.encoder)
        return VectorAdapter(encoder, inner(VECTOR_RECIPES, _linear(encoder, benchmark, choice), choice))

    return Method(contender)


def _on_tokens(inner: Inner) -> Method[Texts]:
    """Returns the method that trains the same blocks as `lifelong`, and a linear head."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> TokenAdapter:
        encoder = frozen(choice.learner, choice.encoder)
        head = _linear(encoder, benchmark, choice)
        net = TopBlocks(encoder, head, num_blocks=choice.learner.trainable_layers)
        return TokenAdapter(encoder.served.tokenizer, inner(TOKEN_RECIPES, net, choice), _all_texts(benchmark))

    return Method(contender)


def _linear(encoder: FrozenEncoder, benchmark: Benchmark[Texts], choice: RunChoice) -> nn.Module:
    return vector_net(encoder.served.config.d_model, len(benchmark.classes), choice.seed)


def _all_texts(benchmark: Benchmark[Texts]) -> Iterator[str]:
    for stage in benchmark.stages:
        yield from chain(stage.train.inputs, stage.test.inputs)


def _whole(benchmark: Benchmark[Texts], choice: RunChoice) -> WholeLearner:
    config = replace(choice.learner, seed=choice.seed)
    config = settings_within(choice.buffer, config, num_classes=len(benchmark.classes), num_items=benchmark.num_items)
    return WholeLearner(config, choice.encoder, benchmark.classes, unlabelled=benchmark.unlabelled)


def settings_within(buffer: int, config: LearnerConfig, *, num_classes: int, num_items: int) -> LearnerConfig:
    """Returns settings with which the replay memory and the holdout together have at most `buffer` samples.

    If the rest of the buffer is too small to train the encoder, the encoder is frozen. Then there is no holdout either,
    since its purpose is to decide whether a trained encoder is adopted.
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
    """Returns the learner with a memory of all texts and of the names of all classes, for any buffer."""
    num_samples = benchmark.num_items + len(benchmark.classes)
    return _whole(benchmark, replace(choice, buffer=num_samples + choice.learner.holdout_samples))


def _head(make: Callable[[int, int], OnlineClassifier]) -> Method[Texts]:
    """Returns the method of a head on the vectors. `make` gets the width of the vectors and the number of classes."""

    def contender(benchmark: Benchmark[Texts], choice: RunChoice) -> VectorAdapter:
        encoder = frozen(choice.learner, choice.encoder)
        head = make(encoder.served.config.d_model, len(benchmark.classes))
        return VectorAdapter(encoder, HeadContender(head, lambda z_ND: z_ND))

    return Method(contender)


def _ridge(benchmark: Benchmark[Texts], choice: RunChoice) -> VectorAdapter:
    config = replace(choice.learner, seed=choice.seed)
    return ridge_on_frozen(config, choice.encoder, num_classes=len(benchmark.classes))


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
