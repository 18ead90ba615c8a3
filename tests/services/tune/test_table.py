"""What was measured is found again on the same machine, and nowhere else."""

from pathlib import Path

import pytest

from services.tune import table as kept
from services.tune.layout import Layout, MeasuredLayout

TABLE = [MeasuredLayout(Layout(1, 2), {1: 10.0, 64: 20.5}), MeasuredLayout(Layout(2, 1), {1: 11.0, 64: 30.0})]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kept.write(TABLE, tmp_path / "state")
    assert kept.read(tmp_path / "state") == TABLE


def test_another_machine_has_its_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write(TABLE, tmp_path)
    monkeypatch.setattr(kept, "num_cores", lambda: 1_000)
    assert kept.read(tmp_path) == []
    kept.write(TABLE[:1], tmp_path)
    assert kept.read(tmp_path) == TABLE[:1]
    monkeypatch.undo()
    assert kept.read(tmp_path) == TABLE


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"a machine": 1}'])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / kept.FILE).write_bytes(content)
    assert kept.read(tmp_path) == []
    kept.write(TABLE, tmp_path)
    assert kept.read(tmp_path) == TABLE
