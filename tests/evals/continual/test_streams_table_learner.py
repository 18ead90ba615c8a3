"""The service's learner on rows of numbers: rows become features, and a column and past labels are learnt."""

import pytest
import torch

from evals.continual.streams import TableLearner
from evals.streams.benchmark import Part
from evals.streams.tabular import ELEC2, LAGS, past_labels, series
from learner.config import LearnerConfig
from tests.required import data_folder

CONFIG = LearnerConfig(num_features=128, label_capacity=4, trainable_layers=0)


def test_a_row_is_learnt_as_numbers_and_categories() -> None:
    """The class says whether the number is high, unless the category inverts it."""
    contender = TableLearner(("low", "high"), categories=[(1, 2)], config=CONFIG)
    number_N = torch.arange(600.0) * 7 % 10
    is_second_N = torch.arange(len(number_N)) % 3 == 0
    labels_N = ((number_N >= 5) ^ is_second_N).long()
    inputs_NF = torch.stack([number_N, (~is_second_N).float(), is_second_N.float()], dim=1)
    assert contender.predict_many(inputs_NF[:2]).tolist() == [0, 0], "nothing is known before the first version"
    contender.learn_many(Part(inputs_NF[:500], labels_N[:500]))
    predicted_N = contender.predict_many(inputs_NF[500:])
    assert float((predicted_N == labels_N[500:]).float().mean()) > 0.9
    assert contender.traits.encoder == "none" and contender.usage.gradients == 0


@pytest.mark.slow  # a version after each of 3,000 rows: minutes
@pytest.mark.timeout(1_200)
def test_the_learner_of_the_service_beats_no_change_on_electricity_prices() -> None:
    """No change predicts 84 % of these rows rightly, and the heads that were designed for such tables predict 93 %."""
    benchmark = series(ELEC2, data_folder("elec2"))
    config = LearnerConfig(label_capacity=16, trainable_layers=0)
    inputs_NF = torch.cat([stage.train.inputs for stage in benchmark.stages])[:3_000]
    labels_N = torch.cat([stage.train.labels_N for stage in benchmark.stages])[:3_000]
    categories = past_labels(inputs_NF.shape[1], LAGS, num_classes=2)
    contender = TableLearner(benchmark.classes, categories=categories, config=config)
    num_right = 0
    for batch in Part(inputs_NF, labels_N).batches(1):
        num_right += int((contender.predict_many(batch.inputs) == batch.labels_N).sum())
        contender.learn_many(batch)
    assert num_right / len(labels_N) > 0.91
