"""`lifelong tune`."""

import json
from pathlib import Path

import pytest

from tests.services.command_line import lifelong


@pytest.mark.slow
def test_what_tune_finds_best_is_in_force_from_then_on(tmp_path: Path) -> None:
    done = lifelong("tune", "--json", LIFELONG_STATE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["winner"] in [measured["layout"] for measured in result["table"]]
    shown = json.loads(lifelong("config", "show", "--json", LIFELONG_STATE_DIR=str(tmp_path)).stdout)
    assert {name: shown[f"serving.{name}"] for name in ("replicas", "threads")} == result["winner"]
