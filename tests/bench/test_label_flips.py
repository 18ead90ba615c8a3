"""Flips are made from the same answers, and labels are counted up to the first that is held back."""

import math
from itertools import cycle, islice

from bench.label_flips import Pair, feed, flip_delays, labels_until_alarm
from learner.intake.flips import FlipDetector

NAMES = ("a", "b", "c", "d")


def right(number: int) -> list[Pair]:
    """Answers that are right, class after class."""
    return [(name, name) for name in islice(cycle(NAMES), number)]


def test_right_answers_raise_nothing() -> None:
    assert feed(FlipDetector(), right(400)).num_raised == 0


def test_a_flipped_class_is_held_after_some_of_its_labels() -> None:
    flips = feed(FlipDetector(), right(400))
    number = labels_until_alarm(flips, right(400), wrong="a", becomes="b")
    assert 0 < number < 200
    assert right(number)[-1] == ("a", "a")


def test_without_flipped_labels_there_is_no_alarm() -> None:
    flips = feed(FlipDetector(), right(400))
    assert labels_until_alarm(flips, right(100), wrong="e", becomes="b") == 0


def test_every_domain_has_its_flips() -> None:
    delays = list(flip_delays(right(1_600), [800, 800]))
    assert len(delays) == 20
    assert all(math.isfinite(delay) and delay >= 0 for delay in delays)
