"""Runs the notebooks as a reader does, cell by cell; they are stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.versions import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_they_are_stored_without_outputs() -> None:
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")], path


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, tmp_path: Path) -> None:
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("LIFELONG_", "KAFKA_HOME"))}
    bin_folder = str(Path(sys.executable).parent)
    code = f"import nbformat, nbclient; nbclient.execute(nbformat.read({str(path)!r}, 4), timeout=300)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=ours | {"PATH": f"{bin_folder}:{ours['PATH']}", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
