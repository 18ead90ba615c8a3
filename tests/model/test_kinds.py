"""The tensor half of a kind is tried on its examples, and a label may have any number of entries."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from lifelong.plugins.kinds import class_tensors
from model.errors import WrongConfig
from model.kinds import Entries, tensors_of
from wire.kinds import KINDS


@pytest.mark.parametrize("name", ["class", "multilabel", "score"])
def test_the_tensors_of_a_kind_are_found_once(name: str) -> None:
    assert tensors_of(KINDS.get(name)) is tensors_of(KINDS.get(name))


def test_entries_add_their_values_to_the_rows_of_their_samples() -> None:
    phi_BR = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    entries = Entries(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), torch.tensor([0.5, 1.0, 0.25]).double())
    assert entries.head_sums(phi_BR).tolist() == [[0.5, 0.0], [1.0, 0.0], [0.0, 0.5]]
    assert entries.targets(2, 3).tolist() == [[0.5, 1.0, 0.0], [0.0, 0.25, 0.0]]
    assert not entries.are_classes and Entries(torch.tensor([0])).are_classes


@dataclass
class TorchFreeHalf:
    """A kind whose tensor half cannot be used."""

    tensors: str
    name: str = "broken"
    examples: tuple[str, ...] = ("a", "b")

    def row_names(self, label: str) -> tuple[str, ...]:
        return (label,)


class Shapeless:
    """A tensor half without targets for some samples."""

    def __getattr__(self, name: str) -> Any:
        return getattr(tensors_of(KINDS.get("class")), name)

    def targets(self, labels: Any, seeds: Any, classes: Any) -> Any:
        return tensors_of(KINDS.get("class")).targets(labels[1:], seeds[1:], classes)


HERE = "tests.model.test_kinds"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tests.model.nowhere:TENSORS", "ModuleNotFoundError"),
        (f"{HERE}:NOTHING", "AttributeError"),
        (f"{HERE}:HERE", "AttributeError: 'str' object has no attribute 'entries'"),
        ("lifelong.plugins.kinds.class_tensors:SHAPELESS", "does not have one row for each sample"),
    ],
)
def test_tensors_that_cannot_be_used_are_one_error_when_they_are_asked_for(
    path: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_tensors, "SHAPELESS", Shapeless(), raising=False)
    with pytest.raises(WrongConfig) as caught:
        tensors_of(TorchFreeHalf(path))
    assert said in str(caught.value)
    assert "the tensors of labels.kind broken" in str(caught.value)
