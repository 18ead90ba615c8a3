"""Tests of journals: intact entries are read, a torn end is not."""

import struct
import zlib
from pathlib import Path

import pytest

from learner.errors import CheckpointFailed
from learner.samples import Sample
from learner.state.checkpoints import Checkpoints, Entry, Journal, read_journal


def entry(version: int, num_samples: int = 2) -> Entry:
    samples = [
        Sample(
            event_id=f"{version}/{number}",
            text="where is my parcel",
            label="delivery",
            predicted_label=None,
            arm="stable",
            weights_version=version,
            feedback_time_ms=1,
            subject="",
            is_in_holdout=False,
        )
        for number in range(num_samples)
    ]
    return Entry(version, 1, samples)


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    for version in (7, 0, 8):
        journal.append(entry(version))
    assert journal.marks == {(7, 1), (0, 1), (8, 1)} and journal.num_samples == 6
    assert read_journal(journal.path) == [entry(7), entry(0), entry(8)]
    assert read_journal(tmp_path / "none.journal") == []


def test_a_torn_end_and_a_flipped_bit_end_what_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append(entry(1))
    num_whole = journal.path.stat().st_size
    journal.append(entry(2))
    data = journal.path.read_bytes()
    for num_bytes in range(num_whole, len(data)):
        journal.path.write_bytes(data[:num_bytes])
        assert read_journal(journal.path) == [entry(1)]
    for place in range(num_whole + 4, len(data), 5):
        journal.path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read_journal(journal.path) == [entry(1)]


@pytest.mark.parametrize("end", [bytes(8), bytes(4096), b"\1", struct.pack("<II", 3, zlib.crc32(b"abc")) + b"abc"])
def test_whatever_a_power_cut_leaves_at_the_end_ends_the_journal(tmp_path: Path, end: bytes) -> None:
    """N2: zeros have the right checksum. The bytes of another file may have it, too, and are no entry."""
    checkpoint = tmp_path / "000000001-e1-v7.checkpoint"
    checkpoint.write_bytes(b"")
    journal = Journal(checkpoint.with_suffix(".journal"))
    journal.append(entry(8))
    with journal.path.open("ab") as file:
        file.write(end)
    assert read_journal(journal.path) == [entry(8)]
    checkpoints = Checkpoints(tmp_path, num_newest=1)
    checkpoints.prune([8])
    assert checkpoints.highest_version() == 8 and journal.path.exists()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.journal").symlink_to("/dev/full")
    with pytest.raises(CheckpointFailed, match=r"a\.journal"):
        Journal(tmp_path / "a.journal").append(entry(1))
    with pytest.raises(CheckpointFailed, match="none"):
        Journal(tmp_path / "none" / "a.journal")


def test_numbers_that_were_used_are_known_from_journals(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, num_newest=3)
    (tmp_path / "000000001-e1-v3.checkpoint").write_bytes(b"")
    assert checkpoints.highest_version() == 3
    checkpoints.begin_journal(tmp_path / "000000001-e1-v3.checkpoint").append(entry(5))
    assert checkpoints.highest_version() == 5
    assert Checkpoints(tmp_path, num_newest=3).highest_version() == 5
