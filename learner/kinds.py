"""The tensors of the kind of a batch of labels. All labels that a learner takes in are of one kind."""

from collections.abc import Sequence

from model.kinds import KindTensors, tensors_of
from wire.kinds import kind_of


def tensors_for(labels: Sequence[str]) -> KindTensors:
    """Returns the functions of their kind; of no labels, those of single classes."""
    return tensors_of(kind_of(labels[0] if labels else ""))
