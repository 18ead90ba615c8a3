"""What was open when a process was killed is tried alone, and refused when it kills again."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.deaths import KEPT_S, MAX_KEPT, Deaths, compute_digest

GOOD, ALSO_GOOD, BAD, VERSION = [compute_digest(name) for name in ("good", "also good", "bad", "version")]

KILLED = """
import os, signal, sys
from pathlib import Path
from serving.deaths import Deaths
deaths = Deaths(Path(sys.argv[1]))
events = [bytes.fromhex(digest) for digest in sys.argv[3:]]
with deaths.open([bytes.fromhex(sys.argv[2])] if sys.argv[2] else [], is_sole=True), deaths.open(events):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Clock:
    now_s: float = 1e9

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kill_amid(folder: Path, events: Sequence[bytes], version: bytes = b"") -> None:
    """Kills a process that has these open."""
    argv = [sys.executable, "-c", KILLED, str(folder), version.hex(), *(event.hex() for event in events)]
    assert subprocess.run(argv, check=False).returncode == -9


@pytest.fixture
def next_process(tmp_path: Path, clock: Clock) -> Iterator["NextProcess"]:
    yield NextProcess(tmp_path, clock)


@dataclass
class NextProcess:
    folder: Path
    clock: Clock

    def __call__(self) -> Deaths:
        return Deaths(self.folder, clock=self.clock)


def test_without_a_death_everything_is_tried_together(next_process: NextProcess) -> None:
    assert next_process().groups([GOOD, BAD, b""]) == [[0, 1, 2]]
    assert Deaths(None).groups([GOOD]) == [[0]]


def test_a_batch_in_which_a_process_died_is_tried_one_by_one_and_cleared_by_success(
    tmp_path: Path, next_process: NextProcess
) -> None:
    """N17: an event that kills was delivered to the next replica, for ever."""
    kill_amid(tmp_path, [GOOD, BAD])
    deaths = next_process()
    assert deaths.groups([ALSO_GOOD, GOOD, BAD]) == [[0], [1], [2]]
    with deaths.open([GOOD]):
        pass
    assert deaths.groups([ALSO_GOOD, GOOD, BAD]) == [[0], [1], [2]], "it was read, and not answered yet"
    deaths.clear([GOOD])
    assert deaths.groups([ALSO_GOOD, GOOD, BAD]) == [[0, 1], [2]]
    kill_amid(tmp_path, [BAD])
    after = next_process()
    assert after.is_refused(BAD) and not after.is_refused(GOOD)
    assert after.groups([BAD, GOOD]) == [[1]]


def test_who_is_open_beside_others_is_never_refused(tmp_path: Path, next_process: NextProcess) -> None:
    for _ in range(3):
        kill_amid(tmp_path, [GOOD, ALSO_GOOD])
        next_process().close()
    deaths = next_process()
    assert deaths.groups([GOOD, ALSO_GOOD]) == [[0], [1]]


def test_a_version_is_to_blame_and_not_the_event_beside_it(tmp_path: Path, next_process: NextProcess) -> None:
    for _ in range(2):
        kill_amid(tmp_path, [GOOD], VERSION)
        next_process().close()
    deaths = next_process()
    assert deaths.is_refused(VERSION) and not deaths.is_refused(GOOD)


def test_deaths_are_forgotten_after_a_while(tmp_path: Path, next_process: NextProcess, clock: Clock) -> None:
    for _ in range(2):
        kill_amid(tmp_path, [BAD])
        next_process().close()
    deaths = next_process()
    assert deaths.is_refused(BAD)
    clock.now_s += KEPT_S
    assert not deaths.is_refused(BAD)


def test_what_another_process_has_found_is_known(tmp_path: Path, next_process: NextProcess) -> None:
    kill_amid(tmp_path, [BAD])
    finder, other = next_process(), next_process()
    assert finder.groups([BAD, GOOD]) == other.groups([BAD, GOOD]) == [[1], [0]]


def test_the_table_is_bounded_and_a_damaged_one_is_none(tmp_path: Path, next_process: NextProcess) -> None:
    (tmp_path / "deaths.json").write_text('{"00": [2')
    many = [compute_digest(str(number)) for number in range(1_000)]
    for _ in range(MAX_KEPT // 1_000 + 1):
        many = [compute_digest(digest.hex()) for digest in many]
        kill_amid(tmp_path, many)
        next_process().close()
    assert len((tmp_path / "deaths.json").read_text().split("],")) == MAX_KEPT


def test_an_orderly_end_leaves_no_notes(tmp_path: Path, next_process: NextProcess) -> None:
    deaths = next_process()
    with deaths.open([GOOD]):
        pass
    deaths.close()
    deaths.close()
    assert not list(tmp_path.glob("*.open"))


def test_where_the_disk_refuses_the_file_nothing_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    deaths = Deaths(tmp_path / "file")
    with deaths.open([BAD]):
        assert deaths.groups([BAD]) == [[0]]
