"""Tests that a table is read again on the same machine only, and what it sets."""

from pathlib import Path

import pytest

from services.settings import TUNE_FILE, load
from services.tune import table as tune_table
from services.tune.measure import Layout, MeasuredLayout

TABLE = [MeasuredLayout(Layout(1, 2), {1: 10.0, 64: 20.5}), MeasuredLayout(Layout(2, 1), {1: 11.0, 64: 30.0})]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tune_table.write(TABLE, tmp_path / "state")
    assert tune_table.read(tmp_path / "state") == TABLE


def test_another_machine_has_its_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune_table.write(TABLE, tmp_path)
    monkeypatch.setattr(tune_table, "num_cores", lambda: 1_000)
    assert tune_table.read(tmp_path) == []
    tune_table.write(TABLE[:1], tmp_path)
    assert tune_table.read(tmp_path) == TABLE[:1]
    monkeypatch.undo()
    assert tune_table.read(tmp_path) == TABLE


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n",
            "AMD EPYC (family 25, model 17)",
        ),
        ("model name\t: AMD EPYC\n", "AMD EPYC"),
    ],
)
def test_two_generations_of_one_name_are_told_apart(tmp_path: Path, cpuinfo: str, name: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert tune_table.processor(tmp_path / "cpuinfo") == name


def test_without_cpuinfo_the_processor_still_has_a_name(tmp_path: Path) -> None:
    assert tune_table.processor(tmp_path / "cpuinfo")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"a machine": 1}'])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TUNE_FILE).write_bytes(content)
    assert tune_table.read(tmp_path) == []
    tune_table.write(TABLE, tmp_path)
    assert tune_table.read(tmp_path) == TABLE


@pytest.mark.parametrize(
    ("flags", "layout"),
    [
        ({}, (2, 1)),
        ({"serving.replicas": "1"}, (1, 2)),
        ({"serving.threads": "2"}, (1, 2)),
        ({"serving.replicas": "3"}, (3, 1)),
        ({"serving.replicas": "3", "serving.threads": "3"}, (3, 3)),
    ],
)
def test_what_is_set_wins_over_what_was_measured_and_that_over_the_default(
    tmp_path: Path, flags: dict[str, str], layout: tuple[int, int]
) -> None:
    tune_table.write([MeasuredLayout(Layout(1, 2), {1: 1.0}), MeasuredLayout(Layout(2, 1), {1: 2.0})], tmp_path)
    loaded = tune_table.fill_in_layout(load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}, flags=flags))
    assert (loaded.settings.serving.replicas, loaded.settings.serving.threads) == layout
    if not flags:
        assert loaded.origins["serving.replicas"] == "follows lifelong tune"
