"""Measures row E4: tuning by tiers, over kept activations, beside tuning everything.

    task     the top blocks that a learner trains by default, and the head    the bars
    narrow   the top block, and the feed-forward part of the one below it     beside it: no learner has this tier
    full     everything, at the best of several rates                         the baseline

All are tuned on the same batches with as many steps, each at a rate of its own, through the rounding with which they
are served. Afterwards the learner's closed-form head learns all training texts on each encoder, in INT8, and names the
test texts. The tiers read kept activations (`learner.known_activations`), so the frozen bottom is computed once for
each text.

The tiers of a learner (`learner.drift`) are numbers of whole blocks: a full run shows what each of them costs and
brings. The best rate of full tuning is chosen on the test texts, to its advantage.
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
from bench.techniques.tasks import FineTuning, TuningRecipe, labelled, task_accuracy, tasks_of
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
"""Rates of full tuning: up to the learner's, which moves fewer weights."""

DROPOUT = LearnerConfig().slow_token_dropout


class Tuned(NamedTuple):
    """What tuning came to."""

    accuracy: float
    """Percent of the test texts."""
    steps_a_s: float
    """Steps in a second of processor time, the median step of the last pass."""
    share: float
    """Percent of the parameters that were trained."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the figures of both ways of tuning on one task. Raises Skip."""
    torch.set_num_threads(1)
    (task,) = tasks_of(run, ("clinc150",), train=3_000, test=4_500)
    encoder = frozen(LearnerConfig(), "minilm-l6")
    top = encoder.strata.config.n_layers - 1
    learner = LearnerConfig()
    rate = learner.slow_rate
    recipe = partial(TuningRecipe, num_passes=PASSES, seed=run.seed, is_rounded=True)
    kept = tuple(f"layers.{top - 1}.{name}" for name in ("qkv", "out", "norm1"))
    untrained = task_accuracy(encoder.served, task)
    rates = FULL_RATES[1:2] if run.is_quick else FULL_RATES
    tried = {each: _tuned(run, encoder, task, recipe(first_layer=None, rate=each)) for each in rates}
    best_rate, whole = max(tried.items(), key=lambda item: item[1].accuracy)
    ours = _tuned(run, encoder, task, recipe(first_layer=top + 1 - learner.trainable_layers, rate=rate))
    narrow = _tuned(run, encoder, task, recipe(first_layer=top - 1, rate=rate, frozen=kept))
    others = ", ".join(f"{each:g}: {found.accuracy:.2f} %" for each, found in tried.items())
    yield run.row(
        "retained",
        round(100 * ours.accuracy / whole.accuracy, 2),
        note=f"full {whole.accuracy:.2f} % at {best_rate:g} ({others}), ours {ours.accuracy:.2f} %, "
        f"narrow {narrow.accuracy:.2f} %, untrained {untrained:.2f} %",
    )
    gain = whole.accuracy - untrained
    yield run.row("gain", round(100 * (ours.accuracy - untrained) / gain, 1) if gain > 0 else None)
    yield run.row("trainable", round(ours.share, 2), note=f"narrow {narrow.share:.1f} %")
    yield run.row(
        "step_speed",
        round(ours.steps_a_s, 2),
        peers=(Peer("full tuning", round(whole.steps_a_s, 2)),),
        note=f"narrow {narrow.steps_a_s:.1f} steps/s",
    )
    texts = [item.text for item in task.train[:64]]
    rows_TD, _ = encoder.served.prefix(texts, top - 1)
    yield run.row("kept_bytes", round(rows_TD.half().nbytes / len(texts)))
    if not run.is_quick:
        yield from _tiers(run, task, recipe)


def _tiers(run: Run, task: TextSet, recipe: Callable[..., TuningRecipe]) -> Iterator[Row]:
    """Yields what a round of each tier of a learner comes to. All blocks of a tier learn at the learner's rate."""
    encoder = frozen(TIERED, "minilm-l6")
    num_blocks = encoder.strata.config.n_layers
    for tier, layers in zip(TIERS, TIERED.tiers, strict=True):
        found = _tuned(run, encoder, task, recipe(first_layer=num_blocks - layers, rate=TIERED.slow_rate))
        note = f"{layers} blocks, {found.share:.1f} % of the parameters, {found.steps_a_s:.1f} steps/s"
        yield run.row(f"{tier}_tier", round(found.accuracy, 2), note=note)


def _tuned(run: Run, encoder: FrozenEncoder, task: TextSet, recipe: TuningRecipe) -> Tuned:
    tokenizer = encoder.served.tokenizer
    assert isinstance(tokenizer, TextTokenizer), "the encoder was loaded from files"
    texts = labelled(task, tokenizer, len(task.train))
    drop = partial(token_dropout, share=DROPOUT, rng=np.random.default_rng(recipe.seed))

    def whole(strata: Strata, places: Sequence[int]) -> tuple[Tensor, RaggedLayout]:
        batch = RaggedBatch.of([drop(texts.token_ids[place]) for place in places])
        return strata.encode_prefix(batch, 0), batch.layout

    def above(_: Strata, places: Sequence[int]) -> tuple[Tensor, RaggedLayout]:
        chosen = [task.train[place].text for place in places]
        return encoder.served.prefix(chosen, recipe.first_layer or 0, drop_tokens=drop)

    tuning = FineTuning(encoder.strata, texts, recipe, inputs=whole if recipe.first_layer is None else above)
    times_s: list[float] = []
    for places in tuning.steps:
        start_s = time.thread_time()
        tuning.step(places)
        times_s.append(time.thread_time() - start_s)
    served = encoder.served.with_top(export_encoder(tuning.strata, first_layer=recipe.first_layer))
    num_trained = sum(each.numel() for each in tuning.parameters)
    share = 100 * num_trained / sum(each.numel() for each in encoder.strata.parameters())
    found = Tuned(task_accuracy(served, task), 1 / median(times_s[-(len(times_s) // PASSES) :]), share)
    run.say(f"from layer {recipe.first_layer} on: {found.accuracy:.2f} %, {found.steps_a_s:.2f} steps/s")
    return found


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
