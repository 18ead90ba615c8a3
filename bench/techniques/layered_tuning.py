"""Measures row E4: tuning only upper layers, over cached activations, compared with tuning all weights.

    task     the top blocks that a learner trains by default, and the head    compared with the bars
    narrow   the top block, and the feed-forward part of the block below      only shown: no learner has this tier
    full     all weights, at the best of several learning rates               the baseline

All three are tuned on the same batches with the same number of steps, each at its own learning rate, through the
rounding of the served kernels. Afterwards, for each encoder, the learner's closed-form head learns all training texts
in INT8 and classifies the test texts. `task` and `narrow` read cached activations (`learner.known_activations`), so the
frozen lower layers run once for each text.

The tiers of a learner (`learner.drift`) are numbers of whole blocks. A full run measures the accuracy and the cost of
each tier. The learning rate of full tuning is chosen on the test texts, which favours the baseline.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Bar, Run, Technique
from bench.techniques.tasks import FineTuning, TuningRecipe, labelled, load_tasks, task_accuracy
from evals.continual.frozen import FrozenEncoder, frozen
from evals.results.row import Peer, Row
from evals.streams.text_sets import TextSet
from learner.config import LearnerConfig
from learner.encoder.served import export_encoder
from learner.rounds.training import token_dropout
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata
from model.tokenizer import TextTokenizer
from wire.records import TIERS

PASSES = 2
TIERED = LearnerConfig(deeper_layers=(3, 4))
"""A learner with three tiers. Its task tier is the default."""

FULL_RATES = (3e-5, 1e-4, 3e-4)
"""The learning rates tried for full tuning, up to the learner's rate, which trains fewer weights."""

DROPOUT = LearnerConfig().slow_token_dropout


class TuningResult(NamedTuple):
    """The accuracy and the cost of a tuned encoder."""

    accuracy: float
    """The accuracy on the test texts, in percent."""
    steps_per_s: float
    """Steps in a second of processor time, from the median step of the last pass."""
    share: float
    """The trained parameters, in percent of all."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the rows of tuning on one task. Raises Skip without data."""
    torch.set_num_threads(1)
    (task,) = load_tasks(run, ("clinc150",), train=3_000, test=4_500)
    encoder = frozen(LearnerConfig(), "minilm-l6")
    top = encoder.strata.config.n_layers - 1
    learner = LearnerConfig()
    rate = learner.slow_rate
    recipe = partial(TuningRecipe, num_passes=PASSES, seed=run.seed, is_rounded=True)
    frozen_parts = tuple(f"layers.{top - 1}.{name}" for name in ("qkv", "out", "norm1"))
    untrained = task_accuracy(encoder.served, task)
    rates = FULL_RATES[1:2] if run.is_quick else FULL_RATES
    full_by_rate = {each: _tune(run, encoder, task, recipe(first_layer=None, rate=each)) for each in rates}
    best_rate, full = max(full_by_rate.items(), key=lambda item: item[1].accuracy)
    ours = _tune(run, encoder, task, recipe(first_layer=top + 1 - learner.trainable_layers, rate=rate))
    narrow = _tune(run, encoder, task, recipe(first_layer=top - 1, rate=rate, frozen=frozen_parts))
    by_rate = ", ".join(f"{each:g}: {result.accuracy:.2f} %" for each, result in full_by_rate.items())
    yield run.row(
        "retained",
        round(100 * ours.accuracy / full.accuracy, 2),
        note=f"full {full.accuracy:.2f} % at {best_rate:g} ({by_rate}), ours {ours.accuracy:.2f} %, "
        f"narrow {narrow.accuracy:.2f} %, untrained {untrained:.2f} %",
    )
    gain = full.accuracy - untrained
    yield run.row("gain", round(100 * (ours.accuracy - untrained) / gain, 1) if gain > 0 else None)
    yield run.row("trainable", round(ours.share, 2), note=f"narrow {narrow.share:.1f} %")
    yield run.row(
        "step_speed",
        round(ours.steps_per_s, 2),
        peers=(Peer("full tuning", round(full.steps_per_s, 2)),),
        note=f"narrow {narrow.steps_per_s:.1f} steps/s",
    )
    texts = [item.text for item in task.train[:64]]
    rows_TD, _ = encoder.served.prefix(texts, top - 1)
    yield run.row("kept_bytes", round(rows_TD.half().nbytes / len(texts)))
    if not run.is_quick:
        yield from _tiers(run, task, recipe)


def _tiers(run: Run, task: TextSet, recipe: Callable[..., TuningRecipe]) -> Iterator[Row]:
    """Yields the accuracy of a round of each tier of a learner. All blocks of a tier train at the learner's rate."""
    encoder = frozen(TIERED, "minilm-l6")
    num_blocks = encoder.strata.config.n_layers
    for tier, layers in zip(TIERS, TIERED.tiers, strict=True):
        result = _tune(run, encoder, task, recipe(first_layer=num_blocks - layers, rate=TIERED.slow_rate))
        note = f"{layers} blocks, {result.share:.1f} % of the parameters, {result.steps_per_s:.1f} steps/s"
        yield run.row(f"{tier}_tier", round(result.accuracy, 2), note=note)


def _tune(run: Run, encoder: FrozenEncoder, task: TextSet, recipe: TuningRecipe) -> TuningResult:
    tokenizer = encoder.served.tokenizer
    assert isinstance(tokenizer, TextTokenizer), "the encoder was loaded from files"
    texts = labelled(task, tokenizer, len(task.train))
    drop = partial(token_dropout, share=DROPOUT, rng=np.random.default_rng(recipe.seed))

    def embed(strata: Strata, places: Sequence[int]) -> tuple[Tensor, RaggedLayout]:
        batch = RaggedBatch.of([drop(texts.token_ids[place]) for place in places])
        return strata.encode_prefix(batch, 0), batch.layout

    def read_cached(_: Strata, places: Sequence[int]) -> tuple[Tensor, RaggedLayout]:
        batch_texts = [task.train[place].text for place in places]
        return encoder.served.prefix(batch_texts, recipe.first_layer or 0, drop_tokens=drop)

    inputs = embed if recipe.first_layer is None else read_cached
    tuning = FineTuning(encoder.strata, texts, recipe, inputs=inputs)
    times_s: list[float] = []
    for places in tuning.steps:
        start_s = time.thread_time()
        tuning.step(places)
        times_s.append(time.thread_time() - start_s)
    served = encoder.served.with_top(export_encoder(tuning.strata, first_layer=recipe.first_layer))
    num_trained = sum(each.numel() for each in tuning.parameters)
    share = 100 * num_trained / sum(each.numel() for each in encoder.strata.parameters())
    last_pass_s = times_s[-(len(times_s) // PASSES) :]
    result = TuningResult(task_accuracy(served, task), 1 / median(last_pass_s), share)
    run.say(f"from layer {recipe.first_layer} on: {result.accuracy:.2f} %, {result.steps_per_s:.2f} steps/s")
    return result


TECHNIQUE = Technique(
    title="instruction-layered tuning",
    claim="The article tunes by layers instead of all weights.",
    how=(
        "MiniLM on CLINC150, 20 texts of each class, two passes: the top block and the feed-forward part of the one "
        "below, on kept activations. Accuracy: the learner's closed-form head, INT8, 4,500 test texts."
    ),
    bars=(
        Bar(
            "retained",
            "% of the accuracy of full tuning",
            ">= 99",
            quick=">= 90",
            baseline="all weights tuned, as many steps",
        ),
        Bar("gain", "% of what full tuning gains over the encoder as it is", baseline="full tuning at its best rate"),
        Bar("trainable", "% of the parameters", "<= 15", baseline="all parameters of the encoder, counted"),
        Bar(
            "step_speed",
            "steps/s of processor time, one thread",
            ">= 3x",
            baseline="a step of full tuning on the same batches",
        ),
        Bar("kept_bytes", "bytes of kept activations a text", baseline="at most 32 MiB in all"),
        *(
            Bar(
                f"{tier}_tier",
                f"% of the test texts, learner.{setting} blocks trained",
                baseline="the other tiers of a learner with three",
            )
            for tier, setting in zip(TIERS, ("trainable_layers", "deeper_layers", "deeper_layers"), strict=True)
        ),
    ),
)
