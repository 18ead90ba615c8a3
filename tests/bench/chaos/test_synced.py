"""Checks the state of a folder after a power cut, with programs that sync and programs that do not."""

import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.synced import PAGE, SyncedFolder, Tail, _draw_surviving, synced_folder
from services.local import children
from services.local.logfile import RotatingLog
from services.local.redis import find_binary
from tests.required import missing
from tests.waiting import eventually

PART = "part"

HELPERS = """
import os, sys
def write(name, data, flags=os.O_WRONLY | os.O_CREAT | os.O_APPEND, sync=False):
    file = os.open(name, flags, 0o600)
    os.write(file, data)
    if sync:
        os.fsync(file)
    os.close(file)
def sync(name):
    file = os.open(name, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
"""


class Whole(random.Random):
    """Draws that every unsynced tail is lost as a whole."""

    def random(self) -> float:
        return 0.0


class Machine:
    """A folder of programs that may lose its power."""

    def __init__(self, folder: Path, disk: SyncedFolder) -> None:
        self._disk = disk
        self.folder = folder

    def run(self, code: str) -> None:
        env = os.environ | self.environment()
        subprocess.run([sys.executable, "-c", HELPERS + code], env=env, cwd=self.folder / PART, check=True, timeout=60)

    def cut(self, rng: random.Random | None = None) -> list[Tail]:
        return self._disk.roll_back(PART, rng or Whole())

    def environment(self) -> dict[str, str]:
        return self._disk.environment()

    def write_back(self) -> None:
        self._disk.write_back()

    def files(self) -> dict[str, bytes]:
        folder = self.folder / PART
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "folder"
    (folder / PART).mkdir(parents=True)
    (tmp_path / "image").mkdir()
    disk = synced_folder(folder, tmp_path / "image")
    if disk is None:
        missing("compiler", "there is no C compiler")
    made = Machine(folder, disk)
    made.run("sync('.')")
    return made


def test_synced_bytes_survive_and_later_ones_are_lost(machine: Machine) -> None:
    machine.run("write('a', b'synced', sync=True); write('a', b' and not')")
    tails = machine.cut()
    assert machine.files() == {"a": b"synced"}
    assert [(tail.path, tail.kept, tail.lost) for tail in tails] == [("part/a", 6, b" and not")]
    assert tails[0].synced_s > 0


def test_a_file_that_was_never_synced_is_gone(machine: Machine) -> None:
    machine.run("write('a', b'1')")
    assert [(tail.path, tail.kept, tail.lost) for tail in machine.cut()] == [("part/a", 0, b"1")]
    assert machine.files() == {}


def test_the_name_of_an_unsynced_file_is_durable_with_the_next_sync_and_its_bytes_are_not(machine: Machine) -> None:
    machine.run("write('a', b'1'); write('b', b'2', sync=True)")
    machine.cut()
    assert machine.files() == {"a": b"", "b": b"2"}


RENAMED = """
write('a', b'old', sync=True)
write('a.new', b'new', sync=True)
os.replace('a.new', 'a')
"""


@pytest.mark.parametrize(
    ("then", "files"),
    [
        ("", {"a": b"old", "a.new": b"new"}),
        ("sync('.')", {"a": b"new"}),
        ("write('b', b'', sync=True)", {"a": b"new", "b": b""}),
        ("sync('a')", {"a": b"new"}),
    ],
)
def test_a_rename_is_durable_with_the_next_sync(machine: Machine, then: str, files: dict[str, bytes]) -> None:
    machine.run(RENAMED + then)
    machine.cut()
    assert machine.files() == files


def test_a_removal_is_durable_with_the_sync_of_its_folder(machine: Machine) -> None:
    machine.run("write('a', b'1', sync=True); write('b', b'2', sync=True); os.unlink('a'); sync('.'); os.unlink('b')")
    machine.cut()
    assert machine.files() == {"b": b"2"}


@pytest.mark.parametrize(
    "change",
    [
        "os.pwrite(file, b'X', 1)",
        "os.lseek(file, 1, 0); os.write(file, b'X')",
        "os.lseek(file, 1, 0); os.writev(file, [b'X'])",
        "os.ftruncate(file, 1); os.pwrite(file, b'Xc', 1)",
    ],
)
def test_bytes_are_overwritten_as_of_the_next_sync(machine: Machine, change: str) -> None:
    machine.run(f"write('a', b'abc', sync=True); file = os.open('a', os.O_RDWR); {change}")
    machine.cut()
    assert machine.files() == {"a": b"abc"}
    machine.run(f"file = os.open('a', os.O_RDWR); {change}; os.fdatasync(file)")
    machine.cut()
    assert machine.files() == {"a": b"aXc"}


def test_a_file_is_cut_off_as_of_the_next_sync(machine: Machine) -> None:
    machine.run("write('a', b'abc', sync=True); file = os.open('a', os.O_RDWR); os.ftruncate(file, 1)")
    machine.cut()
    assert machine.files() == {"a": b"abc"}
    machine.run("write('a', b'x', os.O_WRONLY | os.O_TRUNC, sync=True)")
    machine.cut()
    assert machine.files() == {"a": b"x"}


def test_an_inode_that_comes_again_has_nothing_of_the_file_before(machine: Machine) -> None:
    """Most file systems reuse the inode of a removed file for the next file."""
    machine.run("write('a', b'long and old', sync=True); os.unlink('a'); write('b', b'new', sync=True)")
    machine.cut()
    assert machine.files()["b"] == b"new"


def test_a_sync_includes_the_bytes_of_other_processes(machine: Machine) -> None:
    machine.run("write('a', b'1')")
    machine.run("write('a', b'2', sync=True)")
    machine.cut()
    assert machine.files() == {"a": b"12"}


def test_forked_children_sync_at_the_same_time(machine: Machine) -> None:
    machine.run("""
for number in range(2):
    if not os.fork():
        for place in range(50):
            write(f'{number}', b'%d' % number, sync=True)
        os._exit(0)
for _ in range(2):
    assert os.wait()[1] == 0
""")
    machine.cut()
    assert machine.files() == {"0": b"0" * 50, "1": b"1" * 50}


def test_a_fork_that_is_made_during_a_sync_of_another_thread_can_sync(machine: Machine) -> None:
    """Redis forks to rewrite its file while another thread syncs it."""
    machine.run(
        """
import threading
def sync_all_the_time():
    while True:
        write("parent", b"p", sync=True)
threading.Thread(target=sync_all_the_time, daemon=True).start()
for number in range(200):
    if not (child := os.fork()):
        write(f"child{number % 3}", b"c", sync=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    )
    machine.cut()
    assert sum(len((machine.folder / PART / f"child{number}").read_bytes()) for number in range(3)) == 200


def test_folders_links_and_modes_are_as_they_were(machine: Machine) -> None:
    machine.run("os.mkdir('d', 0o700); write('d/a', b'1', sync=True); os.symlink('d/a', 'link'); sync('.')")
    machine.cut()
    part = machine.folder / PART
    assert (part / "link").read_bytes() == b"1"
    assert ((part / "d").stat().st_mode & 0o777, (part / "d/a").stat().st_mode & 0o777) == (0o700, 0o600)


def test_the_kernel_writes_back_unsynced_bytes_except_of_indexes(machine: Machine) -> None:
    machine.run("write('a', b'1'); write('a.index', b'1')")
    machine.write_back()
    machine.run("write('a', b'2')")
    machine.cut()
    assert machine.files() == {"a": b"1"}


def test_rolled_back_files_are_durable_and_can_be_appended_to(machine: Machine) -> None:
    machine.run("write('a', b'1', sync=True); write('a', b'lost')")
    machine.cut()
    machine.run("write('a', b'2', sync=True); write('a', b'lost, too')")
    machine.cut()
    machine.cut()
    assert machine.files() == {"a": b"12"}


def test_after_a_truncation_the_new_bytes_are_lost(machine: Machine) -> None:
    """A broker truncates a torn tail and appends. Then the file differs from its image before the image's end."""
    machine.run("write('a', b'kept, torn', sync=True)")
    machine.run("os.truncate('a', 4); write('a', b' and new')")
    assert [(tail.kept, tail.lost) for tail in machine.cut(random.Random(0))] == [(4, b" and new")]
    assert machine.files() == {"a": b"kept, torn"}


def test_another_part_of_the_folder_is_not_rolled_back(machine: Machine) -> None:
    machine.run("os.mkdir('../other'); write('../other/a', b'1'); write('a', b'1', sync=True); write('a', b'2')")
    machine.cut()
    assert (machine.folder / "other/a").read_bytes() == b"1"
    assert machine.files() == {"a": b"1"}


@given(st.binary(min_size=1, max_size=3 * PAGE), st.integers(0, 99))
def test_an_unsynced_end_survives_in_part_with_zeros_or_not_at_all(tail: bytes, seed: int) -> None:
    surviving, zeros = _draw_surviving(tail, random.Random(seed))
    assert tail.startswith(surviving) and not zeros.strip(b"\0")
    assert len(surviving + zeros) <= len(tail)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("policy", ["always", "no"])
def test_a_redis_that_always_syncs_loses_nothing(machine: Machine, tmp_path: Path, policy: str) -> None:
    socket = tmp_path / "s"
    argv = [find_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", str(machine.folder / PART)]
    argv += ["--appendonly", "yes", "--appendfsync", policy, "--save", ""]
    found: list[bytes | None] = []
    for _ in range(2):
        server = children.start(argv, log=RotatingLog(tmp_path / "log"), env=machine.environment())
        with redis.Redis(unix_socket_path=str(socket)) as client:
            eventually(partial(_answers, client))
            found.append(client.get("a"))
            client.set("a", "1")
            server.kill()
            server.wait()
        socket.unlink()
        machine.cut()
    assert found == [None, b"1" if policy == "always" else None]
