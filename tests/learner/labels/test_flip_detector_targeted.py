"""F41: one of four sources labels one class as another: how soon it is noticed, and what the class loses."""

from collections.abc import Callable
from itertools import pairwise

import torch

from learner.labels.flip_detector import FlipDetector
from tests.learner.fast.test_ridge_wrong_labels import CLASSES, drawn, empty_head, named

BATCH = 50
"""How many labels come under one version."""

Twist = Callable[[str, str], str]
"""The label that a source gives in the place of the right one."""


def honest(source: str, label: str) -> str:
    return label


def flipped(source: str, label: str) -> str:
    return CLASSES[1] if source == "desk 0" and label == CLASSES[0] else label


def recall(twist: Twist, detector: FlipDetector | None = None) -> tuple[float, int]:
    """Learns 1,500 right labels, then 3,000 twisted ones that the detector does not hold, all from four sources.

    Returns the share of the first class that is named rightly, in percent, and the labels until one was held (0: none).
    """
    phi, labels = drawn(4_500, seed=2)
    test, right = drawn(6_000, seed=3)
    head = empty_head()
    first_held = 0
    for first, end in pairwise(range(0, len(labels) + 1, BATCH)):
        predicted = named(head, phi[first:end]) if first else labels[:end]
        kept: list[int] = []
        said: list[str] = []
        for number in range(first, end):
            source = f"desk {number % 4}"
            label = twist(source, labels[number]) if number >= 1_500 else labels[number]
            if detector is not None and detector.add(source, predicted=predicted[number - first], label=label):
                first_held = first_held or number - 1_500 + 1
                continue
            kept.append(number)
            said.append(label)
        head.learn_many(phi[kept], said)
    own = torch.tensor([label == CLASSES[0] for label in right])
    return 100.0 * sum(name == CLASSES[0] for name in named(head, test[own])) / int(own.sum()), first_held


def test_the_flips_of_one_class_by_one_of_four_sources_are_noticed_within_500_labels() -> None:
    """The labels before the alarm stay learnt, so the class loses about half of what it loses without one."""
    best, _ = recall(honest)
    poisoned, _ = recall(flipped)
    guarded, first_held = recall(flipped, FlipDetector())
    assert best - poisoned > 6
    assert best - guarded <= 4
    assert 0 < first_held <= 500


def test_an_honest_stream_of_four_sources_raises_no_alarm() -> None:
    detector = FlipDetector()
    assert recall(honest, detector)[1] == 0
    assert detector.num_raised == 0
