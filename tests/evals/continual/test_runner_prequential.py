import pytest
import torch

from evals.continual.runner import flip_labels, prequential, shuffle_stages
from evals.continual.streams import STRATEGIES, NoChange, by_path
from learner.errors import DataError
from tests.evals.continual.spans import CHOICE, make_stream


def test_every_row_is_predicted_before_it_is_learnt() -> None:
    """Predicting the last label is never right if labels alternate, and almost always right if they do not change."""
    reported: list[tuple[str, tuple[float, ...]]] = []
    stream = make_stream([1, 0, 1, 0], [0, 0, 1, 1])
    run = prequential(stream, NoChange(), CHOICE, lambda name, row: reported.append((name, row)))
    assert run.matrix == ((0.0, 75.0),)
    assert reported == [("span 0", (0.0,)), ("span 1", (0.0, 75.0))]


def test_a_stream_keeps_its_order() -> None:
    stream = make_stream([1, 0, 1, 1], [0, 0, 1, 1])
    assert shuffle_stages(stream, seed=3) is stream


def test_wrong_labels_are_learnt_but_not_scored() -> None:
    run = prequential(flip_labels(make_stream([1] * 50), 1.0, seed=0), NoChange(), CHOICE, lambda name, row: None)
    assert run.matrix == ((0.0,),)


def test_all_contenders_learn_a_stream_that_hardly_changes() -> None:
    stream = make_stream([0] * 60 + [1] * 60, [0] * 60)
    for name, strategy in STRATEGIES.items():
        run = strategy.measure(stream, strategy.make(stream, CHOICE), CHOICE, lambda name, row: None)
        # The first two get only the inputs, which carry no information.
        expected = 40.0 if name in ("arf", "lifelong") else 95.0
        assert run.matrix[0][0] >= expected, name


def test_strategies_in_stages_are_refused() -> None:
    with pytest.raises(DataError, match="not row by row; here there are lifelong, hedged-ridge, arf, no-change"):
        by_path("avalanche-Naive")


def test_the_forest_learns_from_the_inputs() -> None:
    forest = STRATEGIES["arf"].make(make_stream([0]), CHOICE)
    part = make_stream([0, 1] * 200).stages[0].train
    part.inputs[:, 0] = part.labels_N.float()
    forest.learn_many(part)
    assert torch.equal(forest.predict_many(part.inputs), part.labels_N)
