"""Tests the findings about the learner's files."""

import shutil
from hashlib import sha256
from pathlib import Path

from learner.state.snapshot import FORMAT, encode
from services.state_formats import FormatFinding, Readability, examine_files
from tests.learner.snapshots import snapshot
from tests.services.migration.states import CHECKPOINTS, GOLDEN

OLD = "000000001-e1-v3.checkpoint"


def by_name(folder: Path) -> dict[str, FormatFinding]:
    return {finding.name: finding for finding in examine_files(folder)}


def test_a_checkpoint_of_a_newer_release_is_fatal_where_it_is_the_newest(tmp_path: Path) -> None:
    data = encode(snapshot(3)).replace(b"\xa6format" + bytes([FORMAT]), b"\xa6format\x09")
    body = data[40:]
    newer = data[:8] + sha256(body).digest() + body
    shutil.copy(CHECKPOINTS / f"checkpoint.v{FORMAT}", tmp_path / OLD)
    (tmp_path / "000000002-e1-v3.checkpoint").write_bytes(newer)
    found = by_name(tmp_path)
    fatal = found["000000002-e1-v3.checkpoint"]
    assert (
        fatal.is_fatal
        and f"format 9; this one reads up to {FORMAT}" in fatal.why
        and "release that wrote it" in fatal.why
    )
    assert found[OLD].verdict is Readability.READ
    (tmp_path / "000000003-e1-v3.checkpoint").write_bytes(encode(snapshot(3)))
    assert not any(finding.is_fatal for finding in examine_files(tmp_path))


def test_torn_files_are_said_and_stop_nothing(tmp_path: Path) -> None:
    data = (CHECKPOINTS / f"checkpoint.v{FORMAT}").read_bytes()
    (tmp_path / "000000002-e1-v3.checkpoint").write_bytes(data[:-1])
    (tmp_path / OLD).write_bytes(data)
    shutil.copy(GOLDEN / "samples.journal", tmp_path / "000000001-e1-v3.journal")
    (tmp_path / "a.encoder").write_bytes(b"half of an encoder")
    found = by_name(tmp_path)
    assert found["000000002-e1-v3.checkpoint"].verdict is Readability.UNREADABLE
    assert "learnt again from the topics" in found["000000002-e1-v3.checkpoint"].why
    assert (found[OLD].verdict, found["000000001-e1-v3.journal"].why) == (Readability.READ, "1 entries")
    assert found["a.encoder"].verdict is Readability.UNREADABLE
    assert not any(finding.is_fatal for finding in found.values())


def test_a_folder_that_is_not_there_has_no_findings(tmp_path: Path) -> None:
    assert [*examine_files(tmp_path / "none")] == [] and not (tmp_path / "none").exists()
