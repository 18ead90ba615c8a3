"""Checks the settings of the scenes."""

import random
from dataclasses import replace

import pytest

from bench.chaos.faults import FaultKind, draw_duration_s, flushall
from bench.chaos.scene import scene_settings, select_kinds
from bench.chaos.size import SHORT


def test_the_settings_of_a_scene_are_valid_and_can_be_added_to() -> None:
    settings = scene_settings(serving__replicas=2)
    assert (settings.serving.replicas, settings.learner.trust.require_receipts) == (2, True)


def test_a_fault_lasts_as_long_as_the_size_allows() -> None:
    lasts_s = [draw_duration_s(random.Random(seed), SHORT) for seed in range(100)]
    assert min(lasts_s) >= SHORT.shortest_s and max(lasts_s) <= SHORT.longest_s


def test_an_outage_can_be_of_ten_minutes() -> None:
    assert draw_duration_s(random.Random(0), replace(SHORT, shortest_s=600, longest_s=600)) == 600.0


@pytest.mark.parametrize(
    ("only", "names"),
    [("", ["cut", "pause broker", "pause Redis"]), ("cut,broker", ["cut", "pause broker"]), ("kill", [])],
)
def test_some_kinds_can_be_chosen(only: str, names: list[str]) -> None:
    kinds = [FaultKind(name, lambda _: flushall(scene_settings)) for name in ("cut", "pause broker", "pause Redis")]
    assert [kind.name for kind in select_kinds(kinds, only)] == names
