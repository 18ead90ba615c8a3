"""Checks the parts of maintenance operations; `tests/bench/chaos/test_play.py` runs the operations."""

import random
from pathlib import Path

from bench.chaos.faults import maintenance
from bench.chaos.maintenance import OTHER, Maintainer, other_tree, with_signing_key_file
from bench.chaos.scene import scene_settings
from bench.chaos.size import SHORT
from services.keys import key_ring
from tests.required import missing


def test_the_programs_follow_the_file_of_the_keys(tmp_path: Path) -> None:
    settings = with_signing_key_file(tmp_path / "signing.key", scene_settings(state_dir=str(tmp_path)))
    assert settings.key_file == tmp_path / "signing.key"
    assert key_ring(settings).signer is not None


def test_the_other_commit_is_there_with_its_programs(tmp_path: Path) -> None:
    tree = other_tree(tmp_path / "other")
    if tree is None:
        missing("history", f"this checkout has no {OTHER} (`git fetch --unshallow`)")
    assert (tree / "services/cli.py").is_file()
    assert other_tree(tmp_path / "other") == tree


def test_an_operation_has_two_steps() -> None:
    done: list[str] = []
    kind = maintenance("rotation", lambda: "a key", lambda: done.append("rotated"), SHORT)
    operation = kind.make(random.Random(1))
    assert (operation.inject(), done, operation.num_kills) == ("a key", [], 0)
    operation.heal()
    assert (done, operation.is_over()) == (["rotated"], True)


def test_there_is_a_restore_and_a_rotation_everywhere(tmp_path: Path) -> None:
    settings = scene_settings(state_dir=str(tmp_path))
    maintainer = Maintainer(tmp_path, lambda: settings, {}, lambda: None, lambda tree: None)
    assert {"restore of a backup", "rotation of keys"} <= {kind.name for kind in maintainer.kinds(SHORT)}
