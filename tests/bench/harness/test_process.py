"""Checks that one benchmark runs at a time, and the processes that run one side of a comparison."""

import fcntl
from pathlib import Path

import pytest

from bench.harness import process
from bench.harness.process import PeerFailed, exclusive, run_module


def test_a_failed_process_raises() -> None:
    with pytest.raises(PeerFailed, match="no_such_module"):
        run_module("no_such_module")


def test_a_second_benchmark_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BUILD", tmp_path)
    said: list[str] = []
    with exclusive(said.append), (tmp_path / "bench.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert said == []
