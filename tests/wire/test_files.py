"""Tests atomic writes: if anything interrupts a write, the former content stays."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.files import FileWatch, atomic_write, file_stamp

KILLED = """
import os, signal, sys
from pathlib import Path
from wire.files import atomic_write

with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half of the new")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Interrupted(Exception):
    """Stands for any exception during a write."""


def write(path: Path, content: bytes, *, is_synced: bool = False) -> None:
    with atomic_write(path, is_synced=is_synced) as file:
        file.write(content)


@pytest.mark.parametrize("is_synced", [False, True])
def test_the_new_content_replaces_the_former_one(tmp_path: Path, is_synced: bool) -> None:
    for content in (b"the former", b"new"):
        write(tmp_path / "file", content, is_synced=is_synced)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_a_reader_sees_the_former_content_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"the former")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"the former"
    assert path.read_bytes() == b"new"


def test_an_error_right_before_the_rename_keeps_the_former_content(tmp_path: Path) -> None:
    write(tmp_path / "file", b"the former")

    def refuse() -> None:
        assert len(list(tmp_path.iterdir())) == 2  # the draft is whole
        raise Interrupted

    with pytest.raises(Interrupted), atomic_write(tmp_path / "file", before_rename=refuse) as file:
        file.write(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"the former"}


def test_a_kill_keeps_the_former_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"the former")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_bytes() == b"the former"


def test_if_two_writers_may_not_replace_the_first_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileExistsError), atomic_write(path, may_replace=False, is_synced=True) as file:
        file.write(b"second")
        path.write_bytes(b"first")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"first"}


def test_the_mode_is_set_before_anything_is_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file", mode=0o600):
        (draft,) = tmp_path.iterdir()
        assert draft.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@given(st.lists(st.tuples(st.binary(max_size=20), st.booleans())))
def test_the_file_has_the_content_of_the_last_complete_write(writes: list[tuple[bytes, bool]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        expected: bytes | None = None
        for content, is_whole in writes:
            with suppress(Interrupted), atomic_write(path) as file:
                file.write(content)
                if not is_whole:
                    raise Interrupted
            expected = content if is_whole else expected
        assert (path.read_bytes() if path.exists() else None) == expected
        assert len(list(Path(folder).iterdir())) == (expected is not None)


def test_a_replaced_file_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    before = file_stamp(path)
    assert file_stamp(path) == before
    with atomic_write(path) as file:
        file.write(b"behind")
    assert file_stamp(path) != before


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    watch = FileWatch(path, check_s=0.0)
    assert watch.read_again(path.read_text) is None
    write(path, b"two")
    assert watch.read_again(path.read_text) == "two"
    assert watch.read_again(path.read_text) is None
    path.unlink()
    for _ in range(2):  # as long as it cannot be read
        with pytest.raises(FileNotFoundError):
            watch.read_again(path.read_text)
    path.write_text("three")
    assert watch.read_again(path.read_text) == "three"


def test_an_unread_file_is_read_at_once_and_then_at_intervals(tmp_path: Path) -> None:
    now_s = [-50.0]
    path = tmp_path / "file"
    path.write_text("one")
    watch = FileWatch(path, check_s=5.0, is_read=False, clock=lambda: now_s[0])
    assert watch.read_again(path.read_text) == "one"
    write(path, b"two")
    now_s[0] += 4.0
    assert watch.read_again(path.read_text) is None
    now_s[0] += 1.0
    assert watch.read_again(path.read_text) == "two"


@pytest.mark.parametrize("changed", [0, 1])
def test_one_of_several_files_is_enough(tmp_path: Path, changed: int) -> None:
    paths = [tmp_path / name for name in ("certificate", "key")]
    for path in paths:
        path.write_text("old")
    watch = FileWatch(*paths, check_s=0.0)
    write(paths[changed], b"new")
    assert watch.read_again(lambda: "read") == "read"
