"""Tests that the first label of a batch decides its kind."""

from learner.kinds import kind_tensors
from lifelong.plugins.kinds.sets import MULTILABEL, join_names
from model.kinds import tensors_of
from wire.kinds import KINDS


def test_no_labels_are_those_of_classes() -> None:
    assert kind_tensors([join_names("ab")]) is tensors_of(MULTILABEL)
    assert kind_tensors([]) is kind_tensors(["a"]) is tensors_of(KINDS.get("class"))
