"""The notes of a process: what it has open when it is killed, and only that, is found once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.deaths import MAX_DIGESTS, NUM_SLOTS, OpenNotes, dead_notes

DIGESTS = [bytes([number]) * 16 for number in range(3)]

KILLED = """
import os, signal, sys
from pathlib import Path
from serving.deaths import OpenNotes
notes = OpenNotes(Path(sys.argv[1]))
first, second, third = [notes.take() for _ in range(3)]
notes.write(first, [b"a" * 16, b"b" * 16], is_sole=False)
notes.write(second, [b"c" * 16], is_sole=True)
notes.write(third, [b"d" * 16], is_sole=False)
notes.free(third)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_open_is_found_once(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -9
    own = OpenNotes(tmp_path)
    (blocks,) = dead_notes(tmp_path, own.path)
    assert sorted(blocks) == [([(b"a" * 16).hex(), (b"b" * 16).hex()], False), ([(b"c" * 16).hex()], True)]
    assert not list(dead_notes(tmp_path, own.path))
    own.close()
    assert not list(tmp_path.iterdir())


def test_the_notes_of_a_process_that_lives_are_left_alone(tmp_path: Path) -> None:
    living = OpenNotes(tmp_path)
    slot = living.take()
    assert slot is not None
    living.write(slot, DIGESTS, is_sole=False)
    assert not list(dead_notes(tmp_path, tmp_path / "own"))
    assert living.path.exists()


def test_slots_and_digests_are_bounded(tmp_path: Path) -> None:
    notes = OpenNotes(tmp_path)
    slots = [notes.take() for _ in range(NUM_SLOTS)]
    assert notes.take() is None
    assert slots[0] is not None
    notes.write(slots[0], DIGESTS * MAX_DIGESTS, is_sole=False)
    notes.free(slots[0])
    assert notes.take() == slots[0]


@pytest.mark.parametrize("content", [b"", b"\xff" * 70_000, b"\xff" * 200_000])
def test_damaged_notes_are_nothing_or_digests_that_nobody_has(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.open").write_bytes(content)
    for blocks in dead_notes(tmp_path, tmp_path / "own"):
        for block in blocks:
            assert set(map(len, block.digests)) == {32}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_refuses_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        OpenNotes(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
