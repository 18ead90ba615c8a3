"""Checks which settings are stored, and for which batches."""

from pathlib import Path

import pytest

from bench.harness.machine import PEERS
from bench.peers import rectangles as under_test
from bench.peers.rectangles import Choices, EncodeSettings

BATCH = [[1, 2, 3], [4]]
CHOSEN = EncodeSettings("fast", lanes=2, size=4, is_shape_fixed=True)
TRIED = {"fast": 0.5, "slow": 2.0}


def test_stored_settings_are_found_for_batches_of_the_same_shape(tmp_path: Path) -> None:
    path = tmp_path / "peer-1.json"
    assert Choices(path).tried(BATCH) == {}
    Choices(path).store(BATCH, TRIED)
    Choices(path).store([[1]], {"slow": 3.0})
    assert Choices(path).tried([[9], [7, 8, 9]]) == TRIED
    assert Choices(path).tried([[1, 2, 3], [4, 5]]) == {}
    assert [entry.name for entry in tmp_path.iterdir()] == ["peer-1.json"]


@pytest.mark.parametrize(("name", "answer"), [("machine", "another"), ("versions", None)])
def test_stored_settings_do_not_apply_to_another_machine_or_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str | None
) -> None:
    path = tmp_path / "peer-1.json"
    Choices(path).store(BATCH, TRIED)
    newer = dict.fromkeys(("torch", *PEERS), "99")
    monkeypatch.setattr(under_test, name, lambda *_: answer or newer)
    assert Choices(path).tried(BATCH) == {}


def test_a_file_of_another_release_is_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "peer-1.json"
    path.write_text('{"x": {"variant": "fast", "lanes": 2}}')
    assert Choices(path).tried(BATCH) == {}


def test_settings_in_words() -> None:
    assert str(CHOSEN) == "fast, in 4s, shape fixed, 2 lanes"
    assert str(EncodeSettings("slow")) == "slow"
