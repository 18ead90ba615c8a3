"""Encoders are found in a package, a folder or the cache. The error for a missing encoder names the fix."""

import os
import shutil
from pathlib import Path

import pytest

from model.errors import EncoderChanged, EncoderNotFound
from model.source import FILES, PACKAGES, SHA256, encoder_folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_package() -> None:
    assert all((encoder_folder("minilm-l6") / name).is_file() for name in FILES)


def test_a_package_with_other_weights_is_refused_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "changed_minilm"
    shutil.copytree(encoder_folder("minilm-l6"), package / "model")
    (package / "__init__.py").touch()
    with (package / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"!")
    (package / "model" / "modules.json").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(PACKAGES, "minilm-l6", ("changed_minilm", "model"))
    with pytest.raises(EncoderChanged, match=r"model\.safetensors, modules\.json in .*; reinstall changed_minilm"):
        encoder_folder("minilm-l6")


def test_every_package_has_digests_of_the_files_that_it_must_have() -> None:
    assert all(SHA256[encoder].keys() >= {*FILES} for encoder in PACKAGES)


def test_folder(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).touch()
    assert encoder_folder(str(tmp_path)) == tmp_path


def test_folder_names_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(EncoderNotFound, match=r"has no tokenizer\.json, model\.safetensors"):
        encoder_folder(str(tmp_path))


def test_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "other", ("no_such_package", "model"))
    with pytest.raises(EncoderNotFound, match="package no_such_package is not installed"):
        encoder_folder("other")


@pytest.mark.parametrize("encoder", ["owner/name", "/no/such/folder", "not an id"])
def test_unknown_names_the_remedy(encoder: str) -> None:
    with pytest.raises(EncoderNotFound, match="none of minilm-l6, no folder, and not in the local cache"):
        encoder_folder(encoder)


def test_cached_id(tmp_path: Path) -> None:
    snapshot = tmp_path / "cache" / "models--owner--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in FILES:
        (snapshot / name).touch()
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert encoder_folder("owner/name") == snapshot
