"""Programs that end are restarted, and unexpected ends are counted."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.chaos import programs
from bench.chaos.programs import ChaosProgram, Programs, last_line
from tests.waiting import eventually

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
LINES: list[str] = []


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.setattr(programs, "RESTART_S", 0.01)
    LINES.clear()
    started = Programs(LINES.append)
    yield started
    started.close(1.0)


def test_a_program_is_prepared_before_each_start(running: Programs, tmp_path: Path) -> None:
    prepared: list[int] = []
    ends = [sys.executable, "-c", ""]
    running.start(
        ChaosProgram("it", ends, {}, tmp_path / "log", prepare=lambda: prepared.append(running.num_unexpected_ends))
    )

    def is_started_again() -> bool:
        running.check()
        return len(prepared) > 1

    eventually(is_started_again)
    assert prepared[:2] == [0, 1]


def program(tmp_path: Path, argv: list[str]) -> ChaosProgram:
    return ChaosProgram("it", argv, {}, tmp_path / "log")


def test_a_killed_program_is_restarted_and_not_counted(running: Programs, tmp_path: Path) -> None:
    killed = program(tmp_path, SLEEP)
    running.start(killed)
    first = killed.pid
    os.kill(first, 9)

    def is_back() -> bool:
        running.check()
        return killed.pid not in (0, first)

    eventually(is_back)
    assert (running.num_unexpected_ends, LINES) == (0, [])


@pytest.mark.parametrize(("code", "counted"), [(os.EX_TEMPFAIL, 0), (3, 1)])
def test_an_unexpected_end_is_logged_and_counted_unless_the_exit_code_asks_for_a_restart(
    running: Programs, tmp_path: Path, code: int, counted: int
) -> None:
    ending = program(tmp_path, [sys.executable, "-c", f"print('why', flush=True); raise SystemExit({code})"])
    running.start(ending)
    assert ending.process is not None
    ending.process.wait(30)
    eventually(lambda: last_line(ending.log) == "why")
    running.check()
    assert running.num_unexpected_ends == counted
    assert [f"it ended unexpectedly with exit code {code}: why"] == LINES
