"""The tasks of the rows that compare encoders over several of them, and what is made of an encoder for each.

tasks_of(run) -> TextSets, cut by the seed      Strata --served_by--> INT8 --task_accuracy--> % of the test texts
Strata --fine_tuned: cosine classifier, cross-entropy, AdamW--> a copy that suits one task

Shape suffixes: B texts, D width, C classes.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from evals.ledger.experiment import SeedRun
from evals.results.row import Skip
from evals.streams.data import SUPPORT
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet, text_set
from learner.config import LearnerConfig
from learner.errors import DataError
from learner.export import ServedEncoder
from learner.fast.fast_head import FastHead
from learner.learner import Learner
from learner.memory.replay import Labelled
from learner.slow.adamw import AdamW, ParameterGroup
from learner.slow.trainer import HEAD_RATE, cosine_logits
from model.convert.importance import LabelledTexts, class_means
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer

QUICK_TRAIN = 200
QUICK_TEST = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningRecipe:
    """What is trained, and how long. The layers from `first_layer` on are; None: all, and the embedding."""

    first_layer: int | None
    num_passes: int
    seed: int
    rate: float = 2e-4
    decay: float = 0.01
    batch: int = 32


def tasks_of(run: SeedRun, names: Sequence[str], *, train: int, test: int) -> list[TextSet]:
    """Returns the tasks, each with at most so many texts; a quick run has the carried set alone. Raises Skip."""
    if run.is_quick:
        return [text_set(SUPPORT, None).cut(train=QUICK_TRAIN, test=QUICK_TEST, seed=run.seed)]
    try:
        return [text_set(name, run.data).cut(train=train, test=test, seed=run.seed) for name in names]
    except DataError as error:
        raise Skip(str(error)) from error


def token_ids_of(tokenizer: TextTokenizer, items: Sequence[StreamItem]) -> list[list[int]]:
    return tokenizer.encode_many([item.text for item in items])


def labelled(task: TextSet, tokenizer: TextTokenizer, num_texts: int) -> LabelledTexts:
    """Returns the first training texts of a task. A class has the row of its name among all names in order."""
    rows = {label: row for row, label in enumerate(task.labels)}
    items = task.train[:num_texts]
    return LabelledTexts(token_ids_of(tokenizer, items), torch.tensor([rows[item.label] for item in items]))


def fine_tuned(strata: Strata, texts: LabelledTexts, recipe: TuningRecipe) -> Strata:
    """Returns a copy that is trained with a classifier on top, which starts from the class means and is dropped."""
    tuned = copy.deepcopy(strata).requires_grad_(True)
    trained = tuned if recipe.first_layer is None else tuned.layers[recipe.first_layer :]
    parameters = list(trained.parameters())
    head_CD = nn.Parameter(class_means(tuned, texts))
    groups = (
        ParameterGroup(parameters, rate=recipe.rate, decay=recipe.decay),
        ParameterGroup([head_CD], rate=HEAD_RATE * recipe.rate, decay=0.0),
    )
    rng = random.Random(recipe.seed)
    count = len(texts.token_ids)
    steps: list[list[int]] = []
    for _ in range(recipe.num_passes):
        order = rng.sample(range(count), count)
        steps += [order[at : at + recipe.batch] for at in range(0, count, recipe.batch)]
    optimizer = AdamW(groups, num_steps=len(steps))
    for places in steps:
        z_BD = _vectors(tuned, RaggedBatch.of([texts.token_ids[place] for place in places]), recipe.first_layer)
        loss = functional.cross_entropy(cosine_logits(z_BD, head_CD), texts.labels_B[places])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*parameters, head_CD], 1.0)
        optimizer.step()
    return tuned.requires_grad_(False)


def served_by(strata: Strata, tokenizer: TextTokenizer) -> ServedEncoder:
    """Returns the encoder as the learner would publish it, in INT8."""
    return Learner(LearnerConfig(trainable_layers=0), strata, tokenizer).knowledge.fast_head.served


def task_accuracy(served: ServedEncoder, task: TextSet) -> float:
    """Returns the share of the test texts that a closed-form head of all training texts names rightly, in percent."""
    head = FastHead(served, penalty=LearnerConfig().ridge)
    head.admit_all(task.labels)
    head.relearn([Labelled(item.text, item.label) for item in task.train])
    z_BD = served.z_many([item.text for item in task.test])
    rows_B = (served.features(z_BD) @ head.solve().T).argmax(dim=1)
    classes = head.ridge.classes
    right: int = sum(classes[row] == item.label for row, item in zip(rows_B.tolist(), task.test, strict=True))
    return 100.0 * right / len(task.test)


def _vectors(strata: Strata, batch: RaggedBatch, first_layer: int | None) -> Tensor:
    """Returns z_BD, whose gradients end below the first trained layer."""
    if first_layer is None:
        return strata.forward_from(0, strata.encode_prefix(batch, 0), batch.layout)
    with torch.no_grad():
        x_TD = strata.encode_prefix(batch, first_layer)
    return strata.forward_from(first_layer, x_TD, batch.layout)
