"""Checks the settings of the scenes."""

import random

from bench.chaos.scene import SHORTEST_S, lasting, scene_settings
from bench.chaos.size import SHORT


def test_the_settings_of_a_scene_are_valid_and_can_be_added_to() -> None:
    settings = scene_settings(serving__replicas=2)
    assert (settings.serving.replicas, settings.learner.guard.require_receipts) == (2, True)


def test_a_fault_lasts_as_long_as_the_size_allows() -> None:
    lasts_s = [lasting(random.Random(seed), SHORT) for seed in range(100)]
    assert min(lasts_s) >= SHORTEST_S and max(lasts_s) <= SHORT.longest_s
