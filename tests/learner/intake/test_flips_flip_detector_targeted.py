"""F41: one of four sources labels one class as another: how soon it is noticed, and what the class loses."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from learner.config import LearnerConfig
from learner.intake.trust import LabelTrust
from learner.samples import Sample
from tests.learner.fast.test_ridge_wrong_labels import CLASSES, drawn, empty_head, named

BATCH = 50
"""How many labels come under one version."""

FIRST_TWISTED = 1_500
SEEDS = tuple(range(2, 10))

Twist = Callable[[str, str], str]
"""The label that a source gives in the place of the right one, "" for none."""


class Outcome(NamedTuple):
    """The share of the first class that is named rightly, in percent, the labels until one was held (0: none), and how
    many alarms there were."""

    recall: float
    first_held: int
    num_raised: int


def honest(source: str, label: str) -> str:
    return label


def flipped(source: str, label: str) -> str:
    return CLASSES[1] if source == "desk 0" and label == CLASSES[0] else label


def silent(source: str, label: str) -> str:
    return "" if source == "desk 0" and label == CLASSES[0] else label


@cache
def outcome(twist: Twist, seed: int, *, has_alarm: bool = True) -> Outcome:
    """Learns 1,500 right labels, then 3,000 twisted ones, all from four sources, as far as they are trusted."""
    phi, labels = drawn(4_500, seed=seed)
    test, right = drawn(6_000, seed=100)
    head = empty_head()
    trust = LabelTrust(LearnerConfig())
    first_held = 0
    learnt: dict[int, str] = {}
    for first, end in pairwise(range(0, len(labels) + 1, BATCH)):
        predicted = named(head, phi[first:end]) if first else labels[:end]
        batch: dict[int, str] = {}
        withdrawn: list[int] = []
        for number in range(first, end):
            source = f"desk {number % 4}"
            label = twist(source, labels[number]) if number >= FIRST_TWISTED else labels[number]
            if not label:
                continue
            said = sample(number, source=source, label=label, predicted=predicted[number - first])
            is_held = has_alarm and bool(trust.hold(said))
            withdrawn += [int(each.event_id) for each in trust.take_withdrawn()]
            if not is_held:
                batch[number] = label
            elif not first_held:
                first_held = number - FIRST_TWISTED + 1
        head.learn_many(phi[list(batch)], list(batch.values()))
        learnt |= batch
        head.unlearn_many(phi[withdrawn], [learnt.pop(number) for number in withdrawn])
    own = torch.tensor([label == CLASSES[0] for label in right])
    recall = 100.0 * sum(name == CLASSES[0] for name in named(head, test[own])) / int(own.sum())
    return Outcome(recall, first_held, trust.flips.num_raised)


def sample(number: int, *, source: str, label: str, predicted: str) -> Sample:
    return Sample(
        event_id=str(number),
        text="",
        label=label,
        predicted_label=predicted,
        arm="stable",
        weights_version=1,
        feedback_time_ms=number,
        subject="",
        is_in_holdout=False,
        source=source,
    )


def test_the_flips_of_one_class_by_one_of_four_sources_are_noticed_within_500_labels() -> None:
    best = outcome(honest, 2).recall
    guarded = outcome(flipped, 2)
    assert best - outcome(flipped, 2, has_alarm=False).recall > 6
    assert 0 < guarded.first_held <= 500


@pytest.mark.parametrize("seed", SEEDS)
def test_the_class_loses_hardly_more_than_without_the_labels_that_are_flipped(seed: int) -> None:
    """An alarm cannot bring back the right labels, which that source never sent: a quarter of those of the class."""
    guarded = outcome(flipped, seed)
    assert guarded.num_raised >= 1
    assert outcome(silent, seed).recall - guarded.recall <= 1


def test_the_class_loses_less_than_two_points_on_average() -> None:
    assert sum(outcome(honest, seed).recall - outcome(flipped, seed).recall for seed in SEEDS) / len(SEEDS) <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_stream_of_four_sources_raises_no_alarm(seed: int) -> None:
    assert outcome(honest, seed)[1:] == (0, 0)
