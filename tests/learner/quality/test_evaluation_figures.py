"""Versions of sets report micro-F1, versions of scores the mean absolute error, through the real learner."""

from pathlib import Path

import pytest
import torch

from learner.kinds import kind_tensors
from learner.quality.comparison import ScoredHoldout
from learner.quality.evaluation import measure_figures
from learner.samples import Labelled
from lifelong.plugins.kinds.scores import VALUE_ROW, scaled_label
from lifelong.plugins.kinds.sets import join_names
from model.kinds import UNIT
from tests.learner.kind_rig import KindRig, ScoreRig
from tests.learner.publish_rig import PublishRig
from wire.config import LabelConfig
from wire.records import Evaluation
from wire.store import Store


def scored(labels: list[str], classes: tuple[str, ...], logits: list[list[float]]) -> ScoredHoldout:
    samples = [Labelled(str(number), label) for number, label in enumerate(labels)]
    return ScoredHoldout(samples, classes, torch.tensor(logits), kind_tensors(labels).targets(labels, labels, classes))


def test_the_micro_f1_of_a_version_is_reported_with_its_parents() -> None:
    labels = [join_names("ab"), join_names("b"), join_names("")]
    # It predicts a twice, once rightly.
    parent = scored(labels, ("a",), [[1.0], [1.0], [-1.0]])
    # All three are right, and b is predicted once too often.
    new = scored(labels, ("a", "b"), [[1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]])
    assert measure_figures(new, parent, UNIT) == {"micro_f1": pytest.approx((6 / 7, 2 / 5))}
    assert measure_figures(new, new, UNIT) == {"micro_f1": pytest.approx((6 / 7, 6 / 7))}


def test_absolute_errors_are_in_the_unit_of_the_scores() -> None:
    labels = [scaled_label(0.5), scaled_label(1.0)]
    # A value above the range counts as its upper bound.
    parent = scored(labels, (VALUE_ROW,), [[0.0], [2.0]])
    new = scored(labels, (VALUE_ROW,), [[0.5], [0.75]])
    space = LabelConfig(kind="score", range=(1.0, 5.0))
    assert measure_figures(new, parent, space) == {"absolute_error": (0.5, 1.0)}


def evaluate_span(rig: PublishRig, first: int, last: int) -> Evaluation:
    rig.learn(first, last)
    return rig.store.versions.manifest(rig.publish()).evaluation


@pytest.mark.live
def test_a_version_of_sets_reports_its_micro_f1(store: Store, tmp_path: Path) -> None:
    rig = KindRig(store, tmp_path, holdout_share=0.4)
    few = evaluate_span(rig, 0, 20)
    many = evaluate_span(rig, 20, 200)
    assert few.micro_f1 and many.micro_f1 and not many.absolute_error
    assert few.micro_f1[0] == few.micro_f1[1]
    assert many.micro_f1[0] > max(many.micro_f1[1], 0.6)


@pytest.mark.live
def test_a_version_of_scores_reports_its_mean_absolute_error(store: Store, tmp_path: Path) -> None:
    rig = ScoreRig(store, tmp_path, holdout_share=0.4)
    evaluate_span(rig, 0, 20)
    found = evaluate_span(rig, 20, 200)
    assert found.absolute_error and not found.micro_f1
    error, of_parent = found.absolute_error
    assert 0 < error < of_parent < 2.0
    # The accuracy is random, since each sample is drawn as right or wrong.
    assert found.accuracy == pytest.approx(1 - error / 4, abs=0.1)


@pytest.mark.live
def test_a_version_of_single_classes_has_neither(store: Store, tmp_path: Path) -> None:
    found = evaluate_span(PublishRig(store, tmp_path), 0, 60)
    assert not found.micro_f1 and not found.absolute_error
