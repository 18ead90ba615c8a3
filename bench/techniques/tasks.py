"""Provides the texts of the experiments, and tunes, quantizes and tests encoders for a task.

load_tasks(run) -> TextSets, cut by the seed
Strata --served_encoder--> INT8 --task_accuracy--> % of the test texts
Strata --FineTuning: cosine classifier, cross-entropy, AdamW--> a copy that is tuned for one task
Strata, labelled texts --served_model--> a model as a learner publishes it and a replica runs it
contracts, clauses: long texts, the contracts of CUAD (Hendrycks et al., arXiv 2103.06268)

Shape suffixes: T tokens, B texts, D width, C classes.
"""

import copy
import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.harness.case import Run
from bench.harness.texts import data_folder
from evals.results.row import Skip
from evals.streams.data import SUPPORT
from evals.streams.stream import StreamItem
from evals.streams.text_sets import TextSet, text_set
from learner.config import LearnerConfig
from learner.encoder.served import ServedEncoder, export_head
from learner.errors import DataError
from learner.fast.fast_head import FastHead
from learner.fast.ridge import RidgeHead
from learner.learner import Learner
from learner.rounds.adamw import AdamW, ParameterGroup
from learner.rounds.trainer import HEAD_RATE, cosine_logits
from learner.samples import Labelled
from lifelong.compress.distillation import Distiller, DistillOptions
from lifelong.compress.heads import LabelledTexts, class_means
from model.fakequant import fake_layer
from model.linears import full_precision
from model.packed import Inputs as EncoderInputs
from model.packed import WholeEncoder
from model.quantized import QuantizedEncoder, QuantizedModel
from model.ragged import RaggedBatch, RaggedLayout
from model.strata import Strata
from model.strata_family import built_in
from model.tokenizer import TextTokenizer

QUICK_TRAIN = 200
QUICK_TEST = 100

SAY_EVERY = 50
"""The number of distillation steps between two lines of progress."""

Inputs = Callable[[Strata, Sequence[int]], tuple[Tensor, RaggedLayout]]
"""Maps the indices of a batch's texts to x_TD, the input activations of the first trained layer, and their layout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningRecipe:
    """The trained layers, and the options of training."""

    first_layer: int | None
    """The first trained layer. All layers above are trained, too. None trains all layers and the embedding."""
    num_passes: int
    seed: int
    frozen: tuple[str, ...] = ()
    """Modules of the trained layers that are not trained."""
    is_rounded: bool = False
    """Whether training goes through the rounding of the served kernels."""
    rate: float = 2e-4
    decay: float = 0.01
    batch: int = 32

    def unfreeze(self, strata: Strata) -> list[nn.Parameter]:
        """Enables gradients for the trained parameters only, and returns these."""
        strata.requires_grad_(False)
        trained = strata if self.first_layer is None else strata.layers[self.first_layer :]
        trained.requires_grad_(True)
        for name in self.frozen:
            strata.get_submodule(name).requires_grad_(False)
        return [each for each in trained.parameters() if each.requires_grad]

    def steps(self, num_texts: int) -> list[list[int]]:
        """Returns the indices of the texts of each step, in a random order for every pass."""
        rng = random.Random(self.seed)
        steps: list[list[int]] = []
        for _ in range(self.num_passes):
            order = rng.sample(range(num_texts), num_texts)
            steps += [order[at : at + self.batch] for at in range(0, num_texts, self.batch)]
        return steps


def load_tasks(run: Run, names: Sequence[str], *, train: int, test: int) -> list[TextSet]:
    """Returns the tasks, each with at most `train` and `test` texts. A quick run has only the set in the package.

    Raises Skip if a data set is missing.
    """
    if run.is_quick:
        return [text_set(SUPPORT, None).cut(train=QUICK_TRAIN, test=QUICK_TEST, seed=run.seed)]
    try:
        return [text_set(name, data_folder()).cut(train=train, test=test, seed=run.seed) for name in names]
    except DataError as error:
        raise Skip(str(error)) from error


def tokenize(tokenizer: TextTokenizer, items: Sequence[StreamItem]) -> list[list[int]]:
    return tokenizer.encode_many([item.text for item in items])


def labelled(task: TextSet, tokenizer: TextTokenizer, num_texts: int) -> LabelledTexts:
    """Returns the first `num_texts` training texts of a task. A class's row is its index in `task.labels`."""
    rows = {label: row for row, label in enumerate(task.labels)}
    items = task.train[:num_texts]
    return LabelledTexts(tokenize(tokenizer, items), torch.tensor([rows[item.label] for item in items]))


class FineTuning:
    """Trains a copy of `strata` with a cosine classifier on top, which starts from the class means.

    The caller takes each step of `steps` once. `self.strata` is the trained copy; the classifier is not kept. `inputs`
    computes the input of the trained layers, by default from the texts.
    """

    def __init__(
        self, strata: Strata, texts: LabelledTexts, recipe: TuningRecipe, *, inputs: Inputs | None = None
    ) -> None:
        self.strata = copy.deepcopy(strata)
        self.parameters = recipe.unfreeze(self.strata)
        self.steps = recipe.steps(len(texts.token_ids))
        self._texts = texts
        self._first_layer = recipe.first_layer or 0
        self._trains_all = recipe.first_layer is None
        self._linear = fake_layer if recipe.is_rounded else full_precision
        self._inputs = inputs or self._encoded
        self._head_CD = nn.Parameter(class_means(self.strata, texts))
        groups = (
            ParameterGroup(self.parameters, rate=recipe.rate, decay=recipe.decay),
            ParameterGroup([self._head_CD], rate=HEAD_RATE * recipe.rate, decay=0.0),
        )
        self._optimizer = AdamW(groups, num_steps=len(self.steps))

    def step(self, places: Sequence[int]) -> None:
        """Takes one step on the texts with these indices."""
        x_TD, layout = self._inputs(self.strata, places)
        z_BD = self.strata.forward_from(self._first_layer, x_TD, layout, linear=self._linear)
        loss = functional.cross_entropy(cosine_logits(z_BD, self._head_CD), self._texts.labels_B[places])
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*self.parameters, self._head_CD], 1.0)
        self._optimizer.step()

    def _encoded(self, strata: Strata, places: Sequence[int]) -> tuple[Tensor, RaggedLayout]:
        batch = RaggedBatch.of([self._texts.token_ids[place] for place in places])
        # Layers may share matrices: without this, a trained matrix would also get gradients from a lower layer.
        with torch.set_grad_enabled(self._trains_all):
            return strata.encode_prefix(batch, self._first_layer), batch.layout


def fine_tune(strata: Strata, texts: LabelledTexts, recipe: TuningRecipe) -> Strata:
    """Returns a tuned copy of `strata`."""
    tuning = FineTuning(strata, texts, recipe)
    for places in tuning.steps:
        tuning.step(places)
    return tuning.strata.requires_grad_(False)


def distill(
    student: Strata,
    teacher: Strata,
    token_ids: Sequence[list[int]],
    options: DistillOptions,
    *,
    say: Callable[[str], None],
) -> Strata:
    """Trains `student` in place to reproduce the vectors of `teacher`; returns it with gradients disabled.

    Only parameters that require gradients are trained.
    """
    distiller = Distiller(student, teacher, token_ids, options)
    while not distiller.is_done:
        losses = distiller.step()
        if distiller.num_done % SAY_EVERY == 0 or distiller.is_done:
            say(f"distilled {distiller.num_done} of {options.steps} steps, cosine {1 - losses.cosine:.4f}")
    return student.requires_grad_(False)


def served_encoder(whole: WholeEncoder, inputs: EncoderInputs) -> ServedEncoder:
    """Returns the encoder in INT8, as the learner would publish it."""
    return Learner(LearnerConfig(trainable_layers=0), whole, inputs).knowledge.fast_head.served


def closed_form_head(served: ServedEncoder, labels: Sequence[str], items: Sequence[StreamItem]) -> FastHead:
    """Returns the learner's head, trained on all `items`. Its classes have rows in the order of `labels`."""
    head = FastHead(served, penalty=LearnerConfig().ridge)
    head.admit_all(labels)
    head.relearn([Labelled(item.text, item.label) for item in items])
    return head


def task_accuracy(served: ServedEncoder, task: TextSet, precision: str | None = None) -> float:
    """Returns the accuracy on the test texts, in percent, of a closed-form head of all training texts.

    Test texts are encoded in `precision`. The default is the most accurate precision, which also encodes the training
    texts.
    """
    head = closed_form_head(served, task.labels, task.train)
    z_BD = served.z_many([item.text for item in task.test], precision)
    rows_B = (served.features(z_BD) @ head.solve().T).argmax(dim=1)
    classes = head.ridge.classes
    right: int = sum(classes[row] == item.label for row, item in zip(rows_B.tolist(), task.test, strict=True))
    return 100.0 * right / len(task.test)


def ridge_head(phi_NR: Tensor, items: Sequence[StreamItem]) -> RidgeHead:
    """Returns the closed-form head of labelled items whose random features are phi_NR."""
    labels = [item.label for item in items]
    classes = list(dict.fromkeys(labels))
    head = RidgeHead(phi_NR.shape[1], len(classes), penalty=LearnerConfig().ridge)
    for label in classes:
        head.admit(label)
    head.learn_many(phi_NR, labels)
    return head


def head_accuracy(head: RidgeHead, phi_NR: Tensor, items: Sequence[StreamItem]) -> float:
    """Returns the accuracy of the head on items whose random features are phi_NR, in percent."""
    rows_N = head.predict_many(phi_NR).argmax(dim=1)
    predicted: list[str] = [head.classes[row] for row in rows_N.tolist()]
    num_right = sum(label == item.label for label, item in zip(predicted, items, strict=True))
    return 100 * num_right / len(items)


def served_model(strata: Strata, tokenizer: TextTokenizer, train: Sequence[StreamItem]) -> QuantizedModel:
    """Returns the quantized model of an encoder and a closed-form head that is trained on all texts."""
    served = served_encoder(strata, tokenizer)
    return quantized_model(served, closed_form_head(served, sorted({item.label for item in train}), train))


def quantized_model(served: ServedEncoder, head: FastHead) -> QuantizedModel:
    """Returns the quantized model of an encoder and a head of the learner."""
    tensors = {name: stored.tensor for name, stored in served.tensors.items()}
    out = export_head(served.config, head.solve(), temperature=1.0)
    encoder = QuantizedEncoder.from_tensors(built_in(served.config), tensors)
    return QuantizedModel(encoder, served.head(out), head.ridge.classes)


def contracts(data: Path | None) -> list[StreamItem]:
    """Returns the contracts, thousands of words each, in the order of the file. Raises Skip without the file."""
    return [StreamItem(row["text"], row["type"]) for row in _rows(data)]


def clauses(data: Path | None) -> list[dict[str, bool]]:
    """Returns for each contract, in the same order, which kinds of clauses it has. Raises Skip without the file."""
    return [{kind: bool(there) for kind, there in row["clauses_present"].items()} for row in _rows(data)]


def _rows(data: Path | None) -> list[dict[str, Any]]:
    path = (data or Path()) / "cuad" / "contracts.jsonl.gz"
    if not path.exists():
        raise Skip(f"{path} is missing")
    with gzip.open(path, "rt") as lines:
        return list(map(json.loads, lines))
