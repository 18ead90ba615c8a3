"""Tests of the folder of checkpoints: the newest file, fencing, and the files of a version."""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.errors import CheckpointFailed, StateRefused
from learner.state.checkpoints import Checkpoints
from learner.state.snapshot import FORMAT, Snapshot, encode
from tests.learner.snapshots import manifest, snapshot
from wire.errors import StaleEpoch
from wire.files import DRAFT_SUFFIX
from wire.records import WeightManifest


def read_value(snapshot: Snapshot | None) -> float | None:
    """Returns the `value` with which a snapshot was made."""
    return float(snapshot.tensors["head.gram"][0, 0]) if snapshot else None


def value_of_version(checkpoints: Checkpoints, version: WeightManifest) -> float | None:
    state = checkpoints.find_version(version)
    return read_value(state.snapshot) if state else None


def test_a_torn_checkpoint_leaves_the_one_before_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    checkpoints.write(snapshot(1, value=1))
    torn = checkpoints.write(snapshot(2, value=2))
    data = torn.read_bytes()
    for length in range(0, len(data), len(data) // 40):
        torn.write_bytes(data[:length])
        found = checkpoints.newest()
        assert found and found.facts.pending == manifest(1)
    assert "bytes are not the bytes that were written" in checkpoints.refused[-1]


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new", num_newest=3).newest() is None


def test_versions_that_may_return_and_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=2)
    for version in (1, 2, 0, 3, 4, 0):
        checkpoints.write(snapshot(version, value=version))
    (tmp_path / "000000009-e1-v9.temporary").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    checkpoints.prune([2, 0])
    assert [entry.version for entry in checkpoints.entries()] == [0, 4, 2]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".checkpoint"] * 3 + [".txt"]
    found = checkpoints.find_version(manifest(2))
    assert found and found.snapshot.tensors["head.gram"][0, 0] == 2
    assert checkpoints.find_version(manifest(3)) is None


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=2)
    checkpoints.write(snapshot(1))
    (tmp_path / f"000000002-e1-v2.checkpoint.{os.getpid()}{DRAFT_SUFFIX}").symlink_to("/dev/full")
    with pytest.raises(CheckpointFailed, match="No space left"):
        checkpoints.write(snapshot(2))
    assert [path.name for path in tmp_path.iterdir()] == ["000000001-e1-v1.checkpoint"]


def test_without_a_whole_checkpoint_nothing_begins_from_nothing(tmp_path: Path) -> None:
    """B25 no. 8: if every file was torn, the learner started without a checkpoint and did not log it."""
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    for version in (1, 2):
        checkpoints.write(snapshot(version)).write_bytes(b"torn")
    with pytest.raises(StateRefused, match="move all files of this folder elsewhere"):
        checkpoints.newest()


def test_what_a_newer_program_wrote_is_not_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    checkpoints.write(snapshot(1))
    new = snapshot(2)
    checkpoints.write(replace(new, facts=msgspec.structs.replace(new.facts, format=FORMAT + 1)))
    with pytest.raises(StateRefused, match="newer program"):
        checkpoints.newest()


def test_a_checkpoint_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    (tmp_path / "000000001-e1-v1.checkpoint").mkdir()
    with pytest.raises(StateRefused, match="Is a directory"):
        checkpoints.newest()


def test_files_without_an_epoch_in_their_name_are_older_than_all_others(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    for sequence, version in ((41, 0), (42, 7)):
        (tmp_path / f"{sequence:09d}-v{version}.checkpoint").write_bytes(encode(snapshot(version, value=sequence)))
    assert read_value(checkpoints.newest()) == 42 and value_of_version(checkpoints, manifest(7)) == 42
    assert checkpoints.highest_epoch() == 0
    checkpoints.write(snapshot(8, value=43))
    assert [entry.sequence for entry in checkpoints.entries()] == [43, 42, 41]


def test_a_leader_that_slept_writes_nothing_over_its_successor(tmp_path: Path) -> None:
    """B20: it wrote its old state as the newest checkpoint, under the number of a version of its successor."""
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    checkpoints.write(snapshot(4, epoch=1, value=1))
    checkpoints.write(snapshot(5, epoch=2, value=2))
    with pytest.raises(StaleEpoch, match="epoch 2 has written; ours is 1"):
        checkpoints.write(snapshot(5, epoch=1, value=3))
    assert read_value(checkpoints.newest()) == 2
    assert value_of_version(checkpoints, manifest(5, epoch=2)) == 2


write = st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans())


@settings(max_examples=40)
@given(st.lists(write, max_size=20))
def test_whatever_is_written_when_the_newest_is_of_the_last_leader(writes: list[tuple[int, int, bool]]) -> None:
    """B20: leaders write in any order. Some sleep between the last check and the rename, and rename at the end."""
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), num_newest=3)
        landed: list[tuple[int, int, int]] = []  # epoch, version, value
        asleep: list[tuple[Path, Snapshot]] = []
        for value, (epoch, version, sleeps) in enumerate(writes):
            written = snapshot(version, epoch=epoch, value=value)
            highest = max((entry[0] for entry in landed), default=0)
            if sleeps and epoch >= highest:
                asleep.append((checkpoints.next_path(written), written))
            elif epoch >= highest:
                checkpoints.write(written)
                landed.append((epoch, version, value))
            else:
                with pytest.raises(StaleEpoch):
                    checkpoints.write(written)
        last = max((epoch for epoch, *_ in landed), default=0)
        for path, late in asleep:
            if late.facts.epoch < last:
                path.write_bytes(encode(late))
        assert read_value(checkpoints.newest()) == max(
            (value for epoch, _, value in landed if epoch == last), default=None
        )
        for epoch, version, _ in landed:
            found = checkpoints.find_version(manifest(version, epoch=epoch)) if version else None
            assert found is None or found.snapshot.facts.pending == manifest(version, epoch=epoch)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=20))
def test_a_power_cut_leaves_the_last_checkpoint_that_was_synced(writes: list[tuple[bool, int]]) -> None:
    """B25 no. 6: most checkpoints are not synced, so they may never reach the disk, and a power cut may tear them."""
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), num_newest=2)
        torn: list[Path] = []
        last = -1
        for value, (is_synced, wanted) in enumerate([(True, 0), *writes]):
            path = checkpoints.write(snapshot(value + 1, value=value), is_synced=is_synced)
            checkpoints.prune([wanted])
            if is_synced:
                last = value
            else:
                torn.append(path)
        for path in torn:
            if path.exists():
                path.write_bytes(path.read_bytes()[:100])
        assert read_value(checkpoints.newest()) == last


def test_what_is_older_than_an_erasure_goes_even_where_it_was_synced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=2)
    for version, is_synced in ((1, True), (2, False), (3, True), (4, False)):
        checkpoints.write(snapshot(version), is_synced=is_synced)
    checkpoints.prune([], since=4)
    assert [entry.version for entry in checkpoints.entries()] == [4]
