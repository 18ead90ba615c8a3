"""Lists the contenders for tables in the order of time. All are measured row by row and get the same inputs.

    lifelong        the service's learner: rows are the features of events (`TableLearner`)
    hedged-ridge    ridge heads with different forgetting factors, designed for such tables
    arf             river's adaptive random forest (Gomes et al. 2017), ten trees with ADWIN in each
    no-change       the label of the previous row: the baseline for all learners of such a stream

The service's learner publishes a version after each label, as the service does if labels are rare: this takes a tenth
of a second, and the rows of such tables are minutes or hours apart. So, like the other contenders, it predicts a row
after it has learnt all earlier labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from evals.continual.contender import Contender, Traits, Usage
from evals.continual.hedged_ridge import HedgedRidge
from evals.continual.runner import Method, RunChoice, prequential
from evals.continual.whole_learner import WholeLearner
from evals.streams.benchmark import Benchmark, Part
from evals.streams.tabular import LAGS, past_labels
from learner.config import LearnerConfig
from learner.errors import DataError
from wire.inputs import Features, encode_content

if TYPE_CHECKING:
    from river.forest import ARFClassifier


ENCODER: Final = "minilm-l6"
"""The encoder of the service. It is not used, since the events have no text."""


class TableLearner(Contender[Tensor]):
    """The service's learner, on rows of numbers. `categories` are groups of one-hot columns, which may be all 0."""

    def __init__(self, classes: tuple[str, ...], *, categories: Sequence[Sequence[int]], config: LearnerConfig) -> None:
        self._learner = WholeLearner(config, ENCODER, classes, in_fast_lane=True)
        self.traits = replace(self._learner.traits, encoder="none")
        self._categories = [tuple(columns) for columns in categories]
        self._hidden = frozenset[int]().union(*categories)

    def learn_many(self, part: Part[Tensor]) -> None:
        self._learner.learn_many(Part(self._to_contents(part.inputs), part.labels_N))

    def predict_many(self, inputs: Tensor) -> Tensor:
        # -1 means that the learner knows no class yet.
        return self._learner.predict_many(self._to_contents(inputs)).clamp(min=0)

    @property
    def usage(self) -> Usage:
        return self._learner.usage

    def _to_contents(self, inputs_NF: Tensor) -> list[str]:
        return [encode_content("", self._to_features(row)) for row in inputs_NF.tolist()]

    def _to_features(self, row: list[float]) -> Features:
        """Returns the features of an event: a number for each column, and a category for each group of columns."""
        features: Features = {f"x{column}": value for column, value in enumerate(row) if column not in self._hidden}
        for number, columns in enumerate(self._categories):
            chosen = [column for column in columns if row[column]]
            if chosen:
                features[f"past{number}"] = f"{columns.index(chosen[0])}"
        return features


class NoChange(Contender[Tensor]):
    """Predicts the last label."""

    traits = Traits(precision="int64")
    usage = Usage()

    def __init__(self) -> None:
        self._last = 0

    def learn_many(self, part: Part[Tensor]) -> None:
        self._last = int(part.labels_N[-1])

    def predict_many(self, inputs_NF: Tensor) -> Tensor:
        return torch.full((len(inputs_NF),), self._last)


class Forest(Contender[Tensor]):
    """Wraps a classifier of river, which takes one row at a time as a dict."""

    traits = Traits(precision="fp64")
    usage = Usage()

    def __init__(self, forest: "ARFClassifier") -> None:
        self._forest = forest

    def learn_many(self, part: Part[Tensor]) -> None:
        for row, label in zip(part.inputs.tolist(), part.labels_N.tolist(), strict=True):
            self._forest.learn_one(dict(enumerate(row)), label)

    def predict_many(self, inputs_NF: Tensor) -> Tensor:
        labels = (self._forest.predict_one(dict(enumerate(row))) for row in inputs_NF.tolist())
        return torch.tensor([0 if label is None else label for label in labels])


def by_path(path: str) -> Method[Tensor]:
    """Raises DataError: Avalanche has no strategies that learn row by row."""
    raise DataError(f"{path}: Avalanche learns in stages, not row by row; here there are {', '.join(STRATEGIES)}")


def _ours(benchmark: Benchmark[Tensor], choice: RunChoice) -> HedgedRidge:
    return HedgedRidge(benchmark.stages[0].train.inputs.shape[1], len(benchmark.classes), seed=choice.seed)


def _forest(benchmark: Benchmark[Tensor], choice: RunChoice) -> Forest:
    from river.forest import ARFClassifier

    return Forest(ARFClassifier(n_models=10, seed=choice.seed))


def _service(benchmark: Benchmark[Tensor], choice: RunChoice) -> TableLearner:
    config = LearnerConfig(seed=choice.seed, label_capacity=16, trainable_layers=0)
    categories = past_labels(benchmark.stages[0].train.inputs.shape[1], LAGS, num_classes=len(benchmark.classes))
    return TableLearner(benchmark.classes, categories=categories, config=config)


STRATEGIES: dict[str, Method[Tensor]] = {
    "lifelong": Method(_service, prequential),
    "hedged-ridge": Method(_ours, prequential),
    "arf": Method(_forest, prequential),
    "no-change": Method(lambda benchmark, choice: NoChange(), prequential),
}
