"""Tests of the counters and alarms in the learner's report."""

from learner.report import _alarms, _counts
from tests.learner.small_learner import small_learner
from tests.learner.streams import stream


def test_labels_are_counted_by_what_became_of_them() -> None:
    learner = small_learner(trainable_layers=0)
    learner.learn_many(stream(0, 50), {})
    counts = _counts(learner)
    assert counts["labels"] == counts["matched"] + counts["duplicate"]
    assert counts["matched"] == counts["learnt"] + counts["holdout"] == 50
    assert counts["parked"] == counts["flip_alarms"] == 0
    assert _alarms(learner) == ()
