"""A test that passes only when it runs again has failed, and is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.versions import ROOT

SUITE = """
from pathlib import Path
import pytest

BEFORE = Path(__file__).with_name("before")

@pytest.fixture
def number(tmp_path):
    return len(list(tmp_path.iterdir()))

def test_now_and_then(number) -> None:
    was_here = BEFORE.exists()
    BEFORE.touch()
    assert was_here and number == 0

def test_always(number) -> None:
    assert number

def test_never() -> None:
    pass
"""


@pytest.mark.parametrize("in_processes", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_what_passes_only_again_is_counted_named_and_fails(tmp_path: Path, in_processes: list[str]) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.again", "-p", "no:cacheprovider", "--again"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*argv, *in_processes, "test_suite.py"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "1 of 2 failures passed when they ran again\n    test_suite.py::test_now_and_then\n" in done.stdout
    assert "2 failed, 1 passed" in done.stdout
