"""The version of the code."""

import re
from pathlib import Path

import pytest

from services import versions


def test_a_checkout_is_named_by_its_commit() -> None:
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?|\d+\.\d+.*", versions.commit())


def test_elsewhere_it_is_the_version_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nothing"))
    assert re.match(r"\d+\.\d+", versions.commit())
