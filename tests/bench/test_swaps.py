"""Checks the fake versions, and whether an answer mixes versions."""

import pytest
import torch

from bench.swaps import is_mixed, rotate, rotate_rows, unversioned, versioned
from model.quantize import quantize_w8c
from wire.records import Answer

LABELS = ("a", "b", "c")


def answer(label: str | None, version: int) -> Answer:
    return Answer(
        event_id="1",
        text="",
        label=label,
        score=1.0,
        weights_version=version,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_rows_and_labels_turn_together(shift: int) -> None:
    head = quantize_w8c("head.out", torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    after = rotate_rows(head, shift, num_labels=3)
    labels = rotate(LABELS, shift)
    for place, label in enumerate(labels):
        assert torch.equal(after.dequantize()[place], head.dequantize()[LABELS.index(label)])
    assert torch.equal(after.dequantize()[3:], head.dequantize()[3:])


def test_a_label_is_known_without_its_version() -> None:
    assert unversioned(answer(versioned("a", 7), 7)) == "a"
    assert unversioned(answer(versioned("a", 6), 7)) is None
    assert unversioned(answer(None, 7)) is None


def test_an_answer_is_mixed_unless_all_is_of_its_version() -> None:
    assert not is_mixed(answer(versioned("a", 7), 7), "a")
    assert is_mixed(answer(versioned("a", 6), 7), "a")
    assert is_mixed(answer(versioned("b", 7), 7), "a")
    assert is_mixed(answer(None, 7), "a")
    assert is_mixed(answer(versioned("a", 7), 7), None)
