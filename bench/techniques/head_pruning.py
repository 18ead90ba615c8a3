"""Measures row E13: attention heads removed by importance.

MiniLM --importance over tasks--> kept heads --prune--> smaller encoder --closed-form heads--> accuracy by task
                                                  --distil, without labels--> closer to MiniLM --> accuracy by task

The classification heads are trained again on each encoder, as the learner does after a change of the encoder. Training
texts rank the attention heads, distil the encoder and train the classification heads. Test texts measure the loss.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from statistics import mean

import torch

from bench.harness.case import Bar, Run, Technique
from bench.techniques.tasks import distill, labelled, load_tasks, served_encoder, task_accuracy, tokenize
from evals.results.row import Row
from evals.streams.text_sets import TextSet
from lifelong.compress.cost import parameters
from lifelong.compress.distillation import DistillOptions
from lifelong.compress.heads import head_importance, mask_heads, prune, select
from model.bert import load_encoder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer

SHARE = 0.4

BATCH = 32

STEPS = 200
RATE = 2e-4


def measure(run: Run) -> Iterator[Row]:
    """Yields the loss of accuracy, and the difference between masked and removed heads. Raises Skip without data."""
    strata, tokenizer = load_encoder("minilm-l6")
    strata.requires_grad_(False)
    sets = load_tasks(run, ("clinc150", "sst2", "trec6"), train=6_000, test=4_500)
    samples = [labelled(each, tokenizer, run.amount(40, 600)) for each in sets]
    run.say(f"importance of the heads, over {sum(len(each.token_ids) for each in samples)} texts")
    kept = select(strata, head_importance(strata, samples), SHARE)
    pruned = prune(strata, kept)
    yield run.row("mask_equals_prune", _difference(mask_heads(strata, kept), pruned, tokenizer, sets))
    if run.is_quick:
        return
    num_kept = sum(len(heads) for heads in kept.values())
    saved = 1 - parameters(pruned.config).total / parameters(strata.config).total
    before = [_accuracy(run, task, strata, tokenizer) for task in sets]
    untrained = [_accuracy(run, task, pruned, tokenizer) for task in sets]
    token_ids = list(chain.from_iterable(tokenize(tokenizer, task.train) for task in sets))
    options = DistillOptions(steps=STEPS, batch=BATCH, rate=RATE, seed=run.seed)
    distill(pruned.requires_grad_(True), strata, token_ids, options, say=run.say)
    after = [_accuracy(run, task, pruned, tokenizer) for task in sets]
    losses = [old - new for old, new in zip(before, after, strict=True)]
    by_task = ", ".join(f"{each.name} {loss:+.2f}" for each, loss in zip(sets, losses, strict=True))
    of_all = num_kept / (strata.config.n_layers * strata.config.n_heads)
    note = f"{num_kept} heads stay ({of_all:.0%}), {saved:.1%} of the parameters go; lost: {by_task}"
    yield run.row("loss", round(max(losses), 2), note=note)
    yield run.row("loss_mean", round(mean(losses), 2))
    yield run.row("loss_untrained", round(mean(before) - mean(untrained), 2))


def _accuracy(run: Run, task: TextSet, strata: Strata, tokenizer: TextTokenizer) -> float:
    """Returns the accuracy of a task, in percent, served in INT8."""
    accuracy = task_accuracy(served_encoder(strata, tokenizer), task)
    run.say(f"{task.name}: {accuracy:.2f} %")
    return accuracy


def _difference(one: Strata, other: Strata, tokenizer: TextTokenizer, sets: Sequence[TextSet]) -> float:
    """Returns the largest absolute difference between the vectors of two encoders, over test texts of every task."""
    largest = 0.0
    for task in sets:
        token_ids = tokenize(tokenizer, task.test[:64])
        with torch.no_grad():
            differences = [encode_many(each, token_ids, batch_size=BATCH) for each in (one, other)]
        largest = max(largest, float((differences[0] - differences[1]).abs().max()))
    return largest


TECHNIQUE = Technique(
    title="head pruning",
    claim="The article calls 40 % of the heads safe to remove.",
    how=(
        "MiniLM's 72 heads are ranked by the gradient of their gates (Michel et al., arXiv 1905.10650) on texts of "
        f"CLINC150, SST-2 and TREC-6. The lowest 40 % are removed, the rest is distilled for {STEPS} steps of {BATCH} "
        "unlabelled texts, and the closed-form heads are made again."
    ),
    bars=(
        Bar(
            "loss",
            "points of accuracy of the task that loses most, 40 % of the heads removed",
            "<= 1",
            baseline="all heads",
        ),
        Bar("loss_mean", "points of accuracy, mean of the tasks", baseline="all heads"),
        Bar("loss_untrained", "points of accuracy before distillation", baseline="all heads"),
        Bar(
            "mask_equals_prune",
            "largest difference of masked and pruned outputs",
            "<= 1e-05",
            quick="<= 1e-05",
            baseline="the soft mask",
        ),
    ),
)
