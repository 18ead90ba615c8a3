"""Checks how rows are written."""

import fcntl
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import results
from bench.machine import machine
from bench.results import exclusive, record, table
from bench.row import Goal, Peer, Row

ROWS = [
    Row(name="fast", value=900.0, unit="events/s", goal=Goal(">=", 600), peer=Peer("torch", 300.0)),
    Row(name="slow", value=None, unit="ms", goal=Goal("<=", 5)),
]

MEASURED = ["name", "value", "unit", "goal", "met", "peer", "peer_value", "ratio"]
FROZEN = [*MEASURED, "machine", "versions", "command", "commit"]


def test_a_line_has_exactly_the_names_that_were_promised(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    for _ in range(2):
        record(ROWS, "python -m bench", path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 4
    assert [list(line) for line in lines] == [FROZEN] * 4
    assert (lines[0]["goal"], lines[0]["met"], lines[0]["peer"], lines[0]["ratio"]) == (">= 600", True, "torch", 3.0)
    assert (lines[1]["value"], lines[1]["met"]) == (None, False)


def test_the_table_says_which_goal_is_not_met() -> None:
    console = Console(file=io.StringIO(), width=140)
    console.print(table(ROWS))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any("slow" in line and "NOT MET" in line for line in lines)
    assert any("fast" in line and "yes" in line and "3x" in line for line in lines)


def test_the_machine_is_named() -> None:
    assert " x " in machine()
    assert "GiB" in machine()


def test_a_second_benchmark_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "BUILD", tmp_path)
    with exclusive(Console(quiet=True)), (tmp_path / "bench.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
