"""Tests that the names of checkpoints tell which one is newer."""

from pathlib import Path

from learner.state.checkpoints import named, newest_first

NAMES = ["000000003-e1-v7.checkpoint", "000000002-e12-v0.checkpoint", "000000009-v4.checkpoint"]


def test_the_higher_epoch_is_newer_and_then_the_higher_number() -> None:
    paths = [Path("folder", name) for name in [*NAMES, "service.json", "000000001-e1-v1.journal", "1-e1-v1.checkpoint"]]
    found = newest_first(paths)
    assert [entry.path.name for entry in found] == [NAMES[1], NAMES[0], NAMES[2]]
    assert [(entry.sequence, entry.epoch, entry.version) for entry in found] == [(2, 12, 0), (3, 1, 7), (9, 0, 4)]
    assert [entry.path for entry in named(paths)] == paths[:3]
