"""The template of an encoder is written as a class, its test, which passes, and settings that are valid."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.settings import load
from services.templates.writing import NameTaken, write_encoder


def test_what_is_written_runs_as_it_is(tmp_path: Path) -> None:
    names = [path.name for path in write_encoder("my_digits", tmp_path)]
    assert names == ["my_digits.py", "test_my_digits.py", "my_digits.toml"]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_digits.py"]
    tested = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert load(file=tmp_path / "my_digits.toml", environ={}).settings.encoder == "my_digits:MyDigits"


@pytest.mark.parametrize("name", ["class", "My", "a-b", "2d", ""])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NameTaken, match="is not the name of a Python module"):
        write_encoder(name, tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_digits.py").write_text("mine")
    with pytest.raises(NameTaken, match=r"test_digits\.py exists"):
        write_encoder("digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_digits.py"]
