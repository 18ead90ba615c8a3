"""A learner that is small and quick: a random encoder of two narrow blocks, and few features."""

from dataclasses import replace
from functools import cache

import torch

from learner.config import LearnerConfig
from learner.learner import Learner
from learner.replay import Labelled
from learner.requantize import ServedEncoder, stored_encoder, stored_projection
from model.config import StrataConfig
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.learner.streams import label_of, text_of

CONFIG = StrataConfig(
    vocab=30522, d_model=32, n_layers=2, n_heads=2, d_ff=48, max_pos=256, head_features=96, label_capacity=8
)

SMALL = LearnerConfig(
    num_features=96,
    label_capacity=8,
    slow_every_labels=60,
    slow_steps=3,
    slow_batch=8,
    rebuild_batch=20,
    min_held_back=5,
    held_back_share=0.1,
    publish_interval_s=0.0,
    min_parity_cosine=0.9,
    min_parity_agreement=0.5,
)


@cache
def tokenizer() -> TextTokenizer:
    return TextTokenizer.from_encoder("minilm-l6")


def small_strata() -> Strata:
    """The same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Strata(CONFIG).eval()


def small_served(strata: Strata | None = None) -> ServedEncoder:
    tensors = stored_encoder(strata or small_strata()) | {"head.proj": stored_projection(CONFIG, seed=0)}
    return ServedEncoder(CONFIG, tokenizer(), tensors)


def small_learner(**changed: float | str) -> Learner:
    return Learner(small_config(**changed), small_strata(), tokenizer())


def small_config(**changed: float | str) -> LearnerConfig:
    return replace(SMALL, **changed)  # type: ignore[arg-type]


def labelled(first: int, last: int) -> list[Labelled]:
    return [Labelled(text_of(number), label_of(number)) for number in range(first, last)]
