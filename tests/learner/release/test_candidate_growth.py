"""Tests that the head grows with the number of classes from version to version, and that replicas load it."""

from pathlib import Path

import pytest

from learner.encoder.served import FIRST_ROWS, rows_for
from model.config import StrataConfig
from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import tokenizer
from tests.learner.streams import answer, feedback
from wire.store import Store

pytestmark = pytest.mark.live


def test_a_version_with_more_classes_than_the_last_one_had_rows_is_published_and_loaded(
    store: Store, tmp_path: Path
) -> None:
    rig = PublishRig(store, tmp_path, label_capacity=600, holdout_share=0.0)
    rig.learn(0, 20)
    rig.publish()
    for number in range(20, 20 + FIRST_ROWS):
        rig.learner.learn_many(
            [answer(number, label=None), feedback(number, label=f"class {number}")], {"feedback.v1/0": number}
        )
    rig.publish()
    manifest = store.versions.manifest(2)
    assert len(manifest.labels) == FIRST_ROWS + 5
    assert StrataConfig.from_json(manifest.config).label_capacity == rows_for(len(manifest.labels), 600) == 320
    loader = Loader(store, tokenizer(), precision=PrecisionConfig(), probe_tolerance=0.05)
    assert [loader.load(number).model.head.config.label_capacity for number in (1, 2)] == [FIRST_ROWS, 320]
