"""Checks that exported models are made once."""

from pathlib import Path

import pytest

from bench.peers import exported
from bench.peers.exported import cached, model_folder
from tests.model.small_encoder import small_strata


def test_a_model_is_made_once_with_the_file_of_its_weights(tmp_path: Path) -> None:
    calls = []

    def make(path: Path) -> None:
        calls.append(path.name)
        path.write_text("graph")
        path.with_suffix(".bin").write_text("weights")

    for _ in range(2):
        assert cached(tmp_path / "model.xml", make) == tmp_path / "model.xml"
    assert len(calls) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "model.bin", "model.xml"]


def test_an_unfinished_model_is_made_again(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_text("half of it")
        raise OSError("no space left")

    def whole(path: Path) -> None:
        path.write_text("all")

    with pytest.raises(OSError, match="no space"):
        cached(tmp_path / "model.xml", broken)
    cached(tmp_path / "model.xml", whole)
    assert (tmp_path / "model.xml").read_text() == "all"


def test_other_weights_are_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "BUILD", tmp_path)
    strata = small_strata()
    assert model_folder("torch", strata) == model_folder("torch", strata)
    assert model_folder("torch", strata) != model_folder("torch", small_strata(seed=1))


def test_without_its_library_there_is_no_model() -> None:
    with pytest.raises(ImportError):
        model_folder("no-such-library", small_strata())
