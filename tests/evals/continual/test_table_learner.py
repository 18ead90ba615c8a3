"""The service's learner on rows of numbers: what a row becomes, and what it learns of one column and the past."""

import os
from pathlib import Path

import pytest
import torch

from evals.continual.table_learner import PUBLISH_ROWS, TableLearner
from evals.streams.benchmark import Part
from evals.streams.tabular import LAGS, elec2, past_labels
from learner.config import LearnerConfig

DATA = Path(os.environ.get("LIFELONG_DATA", ""))
CONFIG = LearnerConfig(num_features=128, label_capacity=4, trainable_layers=0)


def test_a_row_is_learnt_as_numbers_and_categories() -> None:
    """The class is whether the number is high, unless the category says that it is the other one."""
    contender = TableLearner(("low", "high"), categories=[(1, 2)], config=CONFIG)
    number_N = torch.arange(6.0 * PUBLISH_ROWS) * 7 % 10
    is_second_N = torch.arange(len(number_N)) % 3 == 0
    labels_N = ((number_N >= 5) ^ is_second_N).long()
    inputs_NF = torch.stack([number_N, (~is_second_N).float(), is_second_N.float()], dim=1)
    assert contender.predict_many(inputs_NF[:2]).tolist() == [0, 0], "nothing is known before the first version"
    contender.learn_many(Part(inputs_NF[: 5 * PUBLISH_ROWS], labels_N[: 5 * PUBLISH_ROWS]))
    predicted_N = contender.predict_many(inputs_NF[5 * PUBLISH_ROWS :])
    assert float((predicted_N == labels_N[5 * PUBLISH_ROWS :]).float().mean()) > 0.9
    assert contender.traits.encoder == "none" and contender.usage.gradients == 0


@pytest.mark.slow  # 6,000 rows are learnt and 60 versions published: a minute
@pytest.mark.skipif(not (DATA / "elec2").is_dir(), reason="LIFELONG_DATA has no Elec2")
def test_the_learner_of_the_service_beats_no_change_on_electricity_prices() -> None:
    """No change names 84 % of these rows rightly, and the heads that were made for such tables 93 %, row by row."""
    benchmark = elec2(DATA)
    config = LearnerConfig(label_capacity=16, trainable_layers=0)
    inputs_NF = torch.cat([stage.train.inputs for stage in benchmark.stages])[:6_000]
    labels_N = torch.cat([stage.train.labels_N for stage in benchmark.stages])[:6_000]
    categories = past_labels(inputs_NF.shape[1], LAGS, num_classes=2)
    contender = TableLearner(benchmark.classes, categories=categories, config=config)
    num_right = 0
    for batch in Part(inputs_NF, labels_N).batches(PUBLISH_ROWS):
        num_right += int((contender.predict_many(batch.inputs) == batch.labels_N).sum())
        contender.learn_many(batch)
    assert num_right / len(labels_N) > 0.9
