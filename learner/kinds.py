"""The tensor functions for a batch of labels. All labels of a learner are of one kind."""

from collections.abc import Sequence

from model.kinds import KindTensors, tensors_of
from wire.kinds import find_kind


def kind_tensors(labels: Sequence[str]) -> KindTensors:
    """Returns the tensor functions of the labels' kind; of single classes if there are no labels."""
    return tensors_of(find_kind(labels[0] if labels else ""))
