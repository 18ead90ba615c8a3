"""Measures row E2: parameters shared between tasks, head groups and layers.

    separate   MiniLM, with all weights tuned for each task: one model for each task
    trunk      grouped keys and values, distilled on the tasks' texts; lower layers shared, upper layers tuned per task
    tied       a narrow embedding and layers that share matrices, distilled the same way; all weights tuned per task

All three are tuned by the same loop with the same number of passes, and measured as they would be served, in INT8 with
closed-form heads. Distillation uses the training texts of all tasks without their labels.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from statistics import mean, median

import torch
from torch.nn import functional

from bench.harness.case import Bar, Run, Technique
from bench.techniques.tasks import (
    TuningRecipe,
    distill,
    fine_tune,
    labelled,
    load_tasks,
    served_encoder,
    task_accuracy,
    tokenize,
)
from evals.results.row import Row
from evals.streams.text_sets import TextSet
from lifelong.compress.cost import parameters, tasks
from lifelong.compress.distillation import DistillOptions
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads
from lifelong.compress.share import parse_ties, share
from model.bert import load_encoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer

TASKS = ("clinc150", "snips", "trec6", "sst2")

TRUNK_DEPTH = 4
KV_HEADS = 4

EMBED_DIM = 128
TIES = "aabbcc"
RANK = 8

PASSES = 2
RATE = 5e-4
REPEATS = 5
"""How often a forward pass is timed. The median counts."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the stored parameters and the cost of a task, then the retained accuracy. Raises Skip without data."""
    dense, tokenizer = load_encoder("minilm-l6", max_tokens=64)
    dense.requires_grad_(False)
    sets = load_tasks(run, TASKS, train=3_000, test=2_000)
    token_ids = _texts(sets, tokenizer)
    trunk = pool_kv_heads(dense, KV_HEADS)
    counted = tasks(trunk.config, len(TASKS), depth=TRUNK_DEPTH, separate=dense.config)
    yield run.row("stored_trunk", round(100 * counted.stored / counted.separate, 1))
    tied = tied_encoder(dense, token_ids, ties=TIES, embed_dim=EMBED_DIM, kv_heads=KV_HEADS, rank=RANK)
    whole = parameters(dense.config).total
    yield run.row("stored_tied", round(100 * parameters(tied.config).total / whole, 1))
    cost = further_task_cost(trunk, token_ids[:64], depth=TRUNK_DEPTH)
    yield run.row("cost_of_a_task", round(cost, 3), note=f"counted: {(counted.compute - 1) / 3:.3f}")
    before = _cosine(tied, dense, token_ids[:64])
    options = partial(DistillOptions, rate=RATE, seed=run.seed)
    distill(tied.requires_grad_(True), dense, token_ids, options(steps=run.amount(6, 800)), say=run.say)
    yield run.row("distilled", round(_cosine(tied, dense, token_ids[:64]) - before, 4))
    if run.is_quick:
        return
    distill(trunk.requires_grad_(True), dense, token_ids, options(steps=400), say=run.say)
    separate = _accuracies(run, dense, tokenizer, sets, first_layer=None)
    on_trunk = _accuracies(run, trunk, tokenizer, sets, first_layer=TRUNK_DEPTH)
    by_tied = _accuracies(run, tied, tokenizer, sets, first_layer=None)
    for name, accuracies in (("trunk", on_trunk), ("tied", by_tied)):
        note = ", ".join(
            f"{task.name} {ours:.1f} of {theirs:.1f}"
            for task, ours, theirs in zip(sets, accuracies, separate, strict=True)
        )
        kept = [100 * ours / theirs for ours, theirs in zip(accuracies, separate, strict=True)]
        yield run.row(f"retained_{name}", round(min(kept), 2), note=note)
        yield run.row(f"retained_{name}_mean", round(100 * mean(accuracies) / mean(separate), 2))


@torch.no_grad()
def _cosine(student: Strata, teacher: Strata, token_ids: Sequence[list[int]]) -> float:
    """Returns the mean cosine between the vectors of both encoders for the same texts."""
    batch = RaggedBatch.of(token_ids)
    return float(functional.cosine_similarity(student(batch), teacher(batch)).mean())


def _texts(sets: Sequence[TextSet], tokenizer: TextTokenizer) -> list[list[int]]:
    """Returns the token ids of all training texts, without their labels."""
    return list(chain.from_iterable(tokenize(tokenizer, task.train) for task in sets))


def tied_encoder(
    dense: Strata, token_ids: Sequence[list[int]], *, ties: str, embed_dim: int, kv_heads: int, rank: int
) -> Strata:
    """Returns the encoder with a narrow embedding, grouped keys and values, and shared matrices.

    `ties` has a letter for each layer, for example "aabbcc". Layers with the same letter share all matrices, apart
    from additions of rank `rank`.
    """
    counts_V = torch.bincount(torch.cat(list(map(torch.tensor, token_ids))), minlength=dense.config.vocab)
    narrow = pool_kv_heads(factorise_embedding(dense, embed_dim, counts_V=counts_V), kv_heads)
    banks = parse_ties(ties, dense.config.n_layers)
    return share(narrow, banks, banks, rank=rank)


def _accuracies(
    run: Run, strata: Strata, tokenizer: TextTokenizer, sets: Sequence[TextSet], *, first_layer: int | None
) -> list[float]:
    """Returns the accuracy of each task with a copy of `strata` whose layers from `first_layer` on are tuned for it."""
    accuracies: list[float] = []
    for task in sets:
        run.say(f"tuning for {task.name}")
        recipe = TuningRecipe(first_layer=first_layer, num_passes=PASSES, seed=run.seed)
        tuned = fine_tune(strata, labelled(task, tokenizer, len(task.train)), recipe)
        accuracies.append(task_accuracy(served_encoder(tuned, tokenizer), task))
    return accuracies


@torch.no_grad()
def further_task_cost(trunk: Strata, token_ids: Sequence[list[int]], *, depth: int) -> float:
    """Returns the cost of each further task: the time of the layers from `depth` on as a fraction of the total time."""
    batch = RaggedBatch.of(token_ids)
    lower_s: list[float] = []
    upper_s: list[float] = []
    for _ in range(REPEATS):
        start_s = time.thread_time()
        x_TD = trunk.encode_prefix(batch, depth)
        middle_s = time.thread_time()
        trunk.forward_from(depth, x_TD, batch.layout)
        lower_s.append(middle_s - start_s)
        upper_s.append(time.thread_time() - middle_s)
    return median(upper_s) / (median(lower_s) + median(upper_s))


TECHNIQUE = Technique(
    title="shared parameters",
    claim="The article promises 58 % fewer parameters at 92 % of the quality.",
    how=(
        "CLINC150, SNIPS, TREC-6 and SST-2, at most 3,000 training texts of each, two passes; INT8, closed-form "
        "heads. Baseline: MiniLM, fully tuned for each task. Trunk: four shared layers, grouped keys and values, "
        "distilled for 400 steps; two upper layers tuned for each task. Tied: three banks for six layers with "
        "additions of rank 8, an embedding 128 wide, distilled for 800 steps, fully tuned for each task."
    ),
    bars=(
        Bar(
            "retained_trunk",
            "% of the separate model's accuracy, the task that keeps least",
            ">= 97",
            baseline="a model for each task",
        ),
        Bar("retained_trunk_mean", "% of the separate models' mean accuracy", baseline="a model for each task"),
        Bar(
            "stored_trunk",
            "% of the parameters of the separate models",
            "<= 42",
            quick="<= 42",
            baseline="a model for each task, counted",
        ),
        Bar(
            "retained_tied",
            "% of the dense model's accuracy, the task that keeps least",
            ">= 97",
            baseline="the dense model, tuned for each task",
        ),
        Bar(
            "retained_tied_mean",
            "% of the dense models' mean accuracy",
            baseline="the dense model, tuned for each task",
        ),
        Bar(
            "stored_tied",
            "% of the parameters of the dense model",
            "<= 42",
            quick="<= 42",
            baseline="the dense model, counted",
        ),
        Bar(
            "distilled",
            "more cosine of the tied encoder's vectors with the dense one's",
            quick=">= 0.01",
            baseline="the tied encoder before distillation",
        ),
        Bar(
            "cost_of_a_task",
            "of the time of one task, for each further task",
            "<= 0.4",
            baseline="one task alone",
        ),
    ),
)
