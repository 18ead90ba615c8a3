"""Checks that one benchmark runs at a time."""

import fcntl
from pathlib import Path

import pytest

from bench import process
from bench.process import exclusive


def test_a_second_benchmark_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BUILD", tmp_path)
    said: list[str] = []
    with exclusive(said.append), (tmp_path / "bench.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert said == []
