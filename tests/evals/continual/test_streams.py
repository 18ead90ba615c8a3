"""The contenders for tables in the order of time."""

import pytest
import torch

from evals.continual.streams import STRATEGIES, Forest, NoChange, by_path
from evals.streams.benchmark import Part
from learner.errors import DataError


def test_no_change_predicts_the_label_of_the_previous_row() -> None:
    contender = NoChange()
    contender.learn_many(Part(torch.zeros(3, 2), torch.tensor([1, 0, 1])))
    assert contender.predict_many(torch.zeros(2, 2)).tolist() == [1, 1]


def test_a_forest_of_river_gets_row_after_row() -> None:
    from river.forest import ARFClassifier

    forest = Forest(ARFClassifier(n_models=2, seed=0))
    assert forest.predict_many(torch.zeros(1, 1)).tolist() == [0]
    inputs_NF = torch.arange(200.0)[:, None] % 2
    forest.learn_many(Part(inputs_NF, inputs_NF[:, 0].long()))
    assert forest.predict_many(torch.tensor([[0.0], [1.0]])).tolist() == [0, 1]


def test_a_path_is_refused_with_the_available_names() -> None:
    with pytest.raises(DataError, match=", ".join(STRATEGIES)):
        by_path("avalanche-replay")
