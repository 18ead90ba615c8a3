"""Makes the learner of the service a contender for tables: a row becomes the features of an event without a text.

    row, label --features--> event --WholeLearner--> a version after each row --> class ids

It gets what the other contenders get: numbers are numbers, and the label of an earlier row is a category. A version is
published after each label, as the service does where labels come seldom: it takes a tenth of a second, and the rows of
such tables are minutes or hours apart. So a row is predicted by what was known until then, as by the other contenders.

Rejected: a version after every hundred labels (such a stream would be a test of the pace of the service, which
`make bench ONLY=live` measures, and not of what it learns).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from torch import Tensor

from evals.continual.contender import Contender, Usage
from evals.continual.whole_learner import WholeLearner
from evals.streams.benchmark import Part
from learner.config import LearnerConfig
from wire.features import Features, content_of

ENCODER: Final = "minilm-l6"
"""The encoder of the service, which no event without a text passes."""


class TableLearner(Contender[Tensor]):
    """The service's learner, on rows of numbers. `categories` are groups of columns of which one is 1, or none."""

    def __init__(self, classes: tuple[str, ...], *, categories: Sequence[Sequence[int]], config: LearnerConfig) -> None:
        self._learner = WholeLearner(config, ENCODER, classes, in_fast_lane=True)
        self.traits = replace(self._learner.traits, encoder="none")
        self._categories = [tuple(columns) for columns in categories]
        self._hidden = frozenset[int]().union(*categories)

    def learn_many(self, part: Part[Tensor]) -> None:
        self._learner.learn_many(Part(self._contents_of(part.inputs), part.labels_N))

    def predict_many(self, inputs: Tensor) -> Tensor:
        return self._learner.predict_many(self._contents_of(inputs)).clamp(min=0)

    @property
    def usage(self) -> Usage:
        return self._learner.usage

    def _contents_of(self, inputs_NF: Tensor) -> list[str]:
        return [content_of("", self._features_of(row)) for row in inputs_NF.tolist()]

    def _features_of(self, row: list[float]) -> Features:
        features: Features = {f"x{place}": value for place, value in enumerate(row) if place not in self._hidden}
        for number, columns in enumerate(self._categories):
            chosen = [column for column in columns if row[column]]
            if chosen:
                features[f"past{number}"] = f"{columns.index(chosen[0])}"
        return features
