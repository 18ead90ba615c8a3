"""`python -m bench.techniques`."""

import json
import subprocess
import sys
from pathlib import Path

from services.versions import ROOT


def techniques(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "bench.techniques", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_row_is_printed_as_json_and_stored_nowhere(tmp_path: Path) -> None:
    done = techniques("--row", "e12", "--quick", "--json", "--docs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [row for row in map(json.loads, done.stdout.splitlines()) if not row["name"].startswith("E12.")] == []
    assert not list(tmp_path.iterdir())


def test_a_row_that_is_not_there_is_named_with_those_that_are() -> None:
    done = techniques("--row", "E3")
    assert done.returncode == 2
    assert "invalid choice: 'E3' (choose from 'E1', 'E2'" in done.stderr
