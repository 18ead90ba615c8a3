"""The bytes of each format are stable, so what is written today is read by the release after this one, and tested."""

import shutil
from pathlib import Path

import msgspec
import pytest

from learner.state.checkpoints import Journal, read_journal
from learner.state.snapshot import FORMAT, encode
from rollout.judged_events import JudgedEvent
from rollout.tallies import TalliesState
from services.backups import BackupManifest
from tests.learner.snapshots import snapshot
from tests.services.migration.states import BACKUP, CHECKPOINTS, ENTRY, GOLDEN, JUDGED, KEYS, TALLIES
from wire.store.dump import StoredKey


@pytest.mark.parametrize("value", [TALLIES, JUDGED, BACKUP], ids=["tallies", "judged_event", "backup"])
def test_json_is_written_and_read_as_before(value: TalliesState | JudgedEvent | BackupManifest) -> None:
    names = {TalliesState: "tallies", JudgedEvent: "judged_event", BackupManifest: "backup"}
    golden = (GOLDEN / f"{names[type(value)]}.json").read_bytes()
    assert msgspec.json.encode(value) == golden
    assert msgspec.json.decode(golden, type=type(value)) == value


@pytest.mark.parametrize("change", ["kinds", "fingerprints"])
def test_a_judged_event_from_before_labels_had_kinds_or_fingerprints_is_read(change: str) -> None:
    before = (GOLDEN / f"judged_event.before_{change}.json").read_bytes()
    assert msgspec.json.decode(before, type=JudgedEvent) == JUDGED


def test_the_keys_of_a_backup_are_written_and_read_as_before() -> None:
    golden = (GOLDEN / "keys.msgpack").read_bytes()
    assert msgspec.msgpack.encode(KEYS) == golden
    assert msgspec.msgpack.decode(golden, type=list[StoredKey]) == KEYS


def test_a_journal_is_written_and_read_as_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new.journal")
    journal.append(ENTRY)
    journal.close()
    golden = (GOLDEN / "samples.journal").read_bytes()
    assert (tmp_path / "new.journal").read_bytes() == golden
    shutil.copy(GOLDEN / "samples.journal", tmp_path / "old.journal")
    assert read_journal(tmp_path / "old.journal") == [ENTRY]


def test_the_newest_format_has_a_golden_file_of_what_is_written_now() -> None:
    """The golden file of a format that was not released yet is written again when its fields change, as below."""
    assert encode(snapshot(3, value=1.5)) == (CHECKPOINTS / f"checkpoint.v{FORMAT}").read_bytes()
