"""Class weights: of the labels of each class so many count as evidence that the accuracy is that of weighted labels."""

import msgspec
import pytest

from tests.rollout.joined import Judged, answer, feedback
from wire.config import LabelConfig
from wire.label_set import LabelSet


def test_of_the_labels_of_a_class_so_many_count_as_its_weight_says() -> None:
    """The share of right answers is then that of all labels, each with its weight."""
    window = Judged(4_000)
    window.follow(LabelSet(LabelConfig(class_weights={"fraud": 10.0, "ok": 2.0})))
    for number in range(2_000):
        label = "ok" if number % 20 else "fraud"
        window.add(answer(f"e{number}", "ok"))  # wrong about fraud alone
        window.add(feedback(f"e{number}", label))
    assert len(window.found) == 2_000
    rights = [rights[1] for rights in (label.correctness() for label in window.found) if rights]
    assert rights.count(False) == 100
    assert rights.count(True) == pytest.approx(1_900 * 2 / 10, rel=0.15)


def test_a_corrected_label_counts_as_its_own_class_does() -> None:
    window = Judged(100)
    window.follow(LabelSet(LabelConfig(class_weights={"fraud": 1e6})))
    window.add(answer("a", "fraud"))
    window.add(feedback("a", "ok"))
    window.add(msgspec.structs.replace(feedback("a", "fraud", event_source=""), approval="operator"))
    before, after = window.found
    assert (before.correctness(), after.correctness()) == ({}, {1: True})
    assert after.corrected is not None and after.corrected.correctness() == {}
