"""Tests that the first label of a batch decides its kind."""

from learner.kinds import tensors_for
from lifelong.plugins.kinds.sets import MULTILABEL, set_of
from model.kinds import tensors_of
from wire.kinds import KINDS


def test_no_labels_are_those_of_classes() -> None:
    assert tensors_for([set_of("ab")]) is tensors_of(MULTILABEL)
    assert tensors_for([]) is tensors_for(["a"]) is tensors_of(KINDS.get("class"))
