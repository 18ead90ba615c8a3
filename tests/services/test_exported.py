"""Tests that an exported version is read back, and that each tensor is checked against its digest."""

from pathlib import Path

import pytest

from services.exported import BadExport, read_version, write_version
from tests.serving.versions import build_manifest, version_weights


def test_a_version_is_read_back(tmp_path: Path) -> None:
    manifest = build_manifest(1)
    write_version(tmp_path / "out", manifest, version_weights(1))
    again, tensors = read_version(tmp_path / "out")
    assert again == manifest
    assert {name: each.to_blob() for name, each in tensors.items()} == {
        name: each.to_blob() for name, each in version_weights(1).items()
    }


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    weights = dict(version_weights(1))
    del weights["head.out"]
    write_version(tmp_path / "out", build_manifest(1), weights)
    with pytest.raises(BadExport, match=r"lacks a part of head\.out"):
        read_version(tmp_path / "out")
    with pytest.raises(BadExport, match="is not a version that"):
        read_version(tmp_path)
