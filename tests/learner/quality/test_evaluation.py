"""Candidates are compared with their parent and with the anchor, through the real fast head."""

import pytest
import torch

from learner.learner import Learner
from learner.quality.evaluation import head_update, relative_norm
from learner.release.candidate import Candidate, CandidateMaker
from learner.samples import HoldoutDraw
from learner.stopwatch import Stopwatch
from tests.learner.small_learner import small_config, small_learner
from tests.learner.streams import TOPICS, labelled_events, stream

MORE = {"holdout_share": 0.4}


@pytest.fixture
def learner() -> Learner:
    it = small_learner(trainable_layers=0, **MORE)
    it.learn_many(stream(0, 100), {})
    return it


@pytest.fixture
def maker() -> CandidateMaker:
    return CandidateMaker(small_config(trainable_layers=0, **MORE))


def published(maker: CandidateMaker, learner: Learner) -> Candidate:
    candidate = maker.make(learner.knowledge, Stopwatch())
    learner.version += 1
    maker.adopt(candidate, learner)
    return candidate


def mislead(learner: Learner, first: int, last: int) -> None:
    """Teaches one label for all events that are not in the holdout."""
    share = MORE["holdout_share"]
    numbers = [number for number in range(first, last) if not HoldoutDraw(share)(("", f"event-{number}"))]
    learner.learn_many(labelled_events(numbers, label="refund"), {})


def test_the_first_version_is_compared_with_nothing_and_becomes_the_anchor(
    learner: Learner, maker: CandidateMaker
) -> None:
    evaluation = published(maker, learner).measured.evaluation
    assert evaluation.num_labels == len(learner.knowledge.holdout)
    assert evaluation.num_labels > 20
    assert (evaluation.parent_accuracy, evaluation.anchor, evaluation.cohorts) == (0.0, 0, ())
    anchor = learner.knowledge.anchor
    assert anchor is not None
    assert (anchor.version, anchor.num_classes) == (1, len(TOPICS))
    assert len(anchor.right) == round(evaluation.accuracy * evaluation.num_labels)


def test_an_unchanged_version_is_as_its_parent(learner: Learner, maker: CandidateMaker) -> None:
    before = published(maker, learner)
    after = maker.make(learner.knowledge, Stopwatch())
    evaluation = after.measured.evaluation
    assert evaluation.accuracy == before.measured.evaluation.accuracy
    assert evaluation.parent_accuracy == evaluation.accuracy
    assert evaluation.anchor == 1 and evaluation.anchor_labels == evaluation.num_labels
    assert evaluation.anchor_accuracy == evaluation.accuracy
    assert evaluation.accuracy_beside_anchor == evaluation.accuracy
    assert (evaluation.head_update, evaluation.top_update, evaluation.negative_flips) == (0.0, 0.0, 0.0)
    assert sum(cohort.num_labels for cohort in evaluation.cohorts) == evaluation.num_labels


def test_a_poisoned_version_is_measured_as_worse(learner: Learner, maker: CandidateMaker) -> None:
    good = published(maker, learner).measured
    mislead(learner, 100, 300)
    bad = maker.make(learner.knowledge, Stopwatch()).measured
    assert bad.parent.overall.lost > 0
    assert good.num_named == len(TOPICS)
    assert bad.num_named_by_parent == len(TOPICS)
    assert bad.evaluation.worst_class in TOPICS and bad.evaluation.worst_class_drop > 0
    assert bad.evaluation.accuracy_beside_anchor < bad.evaluation.anchor_accuracy
    assert bad.head_update > 0.1


def test_the_anchor_stays_while_versions_get_worse(learner: Learner, maker: CandidateMaker) -> None:
    published(maker, learner)
    mislead(learner, 100, 300)
    assert published(maker, learner).measured.evaluation.anchor == 1
    assert learner.knowledge.anchor is not None and learner.knowledge.anchor.version == 1
    learner.learn_many(stream(300, 400), {})
    published(maker, learner)
    assert learner.knowledge.anchor.version == 3


def test_new_classes_do_not_count_as_movement(learner: Learner, maker: CandidateMaker) -> None:
    parent = published(maker, learner).version
    new = parent._replace(weights_CR=torch.cat((2 * parent.weights_CR, torch.ones(1, 96))), classes=(*TOPICS, "new"))
    assert head_update(new, parent) == pytest.approx(1.0)


def test_the_norm_is_relative_and_nan_if_a_weight_is_nan() -> None:
    ones = torch.ones(4)
    assert relative_norm([(1.5 * ones, ones), (1.5 * ones, ones)]) == pytest.approx(0.5)
    assert relative_norm([]) == 0.0 and not relative_norm([(ones * float("nan"), ones)]) < 1e9
