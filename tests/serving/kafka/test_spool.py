"""B15: records on disk come back, in order, whatever happens to the process that wrote them."""

import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from bench.chaos.synced import synced_folder
from services.versions import ROOT
from serving.kafka.spool import Mark, Spool
from tests.required import missing

HEADER_BYTES = 16


def spool_in(folder: Path, *, max_bytes: int = 1 << 20, segment_bytes: int = 256) -> Spool:
    spool = Spool(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)
    spool.adopt()
    return spool


def everything(spool: Spool) -> list[bytes]:
    """Returns all records that were not taken yet. None is finished, so they come again."""
    return [data for _, data in iter(spool.take, None)]


class Crashes(RuleBasedStateMachine):
    """Records of many sizes through a spool that crashes again and again: what comes back has no gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.numbers = count()
        self.start_over(self.folder / "first", [])

    def start_over(self, folder: Path, kept: list[bytes]) -> None:
        self.place = folder
        self.spool = spool_in(folder)
        self.kept = kept
        self.taken: dict[bytes, Mark] = {}
        self.finished: set[bytes] = set()
        self.num_taken = 0

    @rule(size=st.integers(0, 200), num=st.integers(1, 5))
    def append(self, size: int, num: int) -> None:
        for _ in range(num):
            data = f"{next(self.numbers)} ".encode() + b"x" * size
            assert self.spool.append(data)
            self.kept.append(data)

    @rule(num=st.integers(1, 5))
    def take(self, num: int) -> None:
        for _ in range(num):
            expected = self.kept[self.num_taken] if self.num_taken < len(self.kept) else None
            found = self.spool.take()
            assert (found[1] if found else None) == expected
            if found:
                self.taken[found[1]] = found[0]
                self.num_taken += 1

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), num=st.integers(1, 5))
    def finish(self, data: st.DataObject, num: int) -> None:
        for _ in range(min(num, len(self.taken))):
            record = data.draw(st.sampled_from(sorted(self.taken)))
            self.spool.finish(self.taken.pop(record))
            self.finished.add(record)

    @rule(data=st.data(), is_cut=st.booleans())
    def crash(self, data: st.DataObject, is_cut: bool) -> None:
        """Hands a copy of the files, the newest cut at any byte, to another process."""
        copy = self.folder / f"after {next(self.numbers)}"
        shutil.copytree(self.place, copy)
        files = sorted(copy.iterdir())
        if files and is_cut:
            os.truncate(files[-1], data.draw(st.integers(0, files[-1].stat().st_size)))
        self.spool.close()
        adopter = spool_in(copy)
        found = everything(adopter)
        adopter.close()
        assert found == [data for data in self.kept if data in set(found)]  # in order, each once
        wanted = [data for data in self.kept if data not in self.finished]
        needed = [data for data in found if data not in self.finished]
        assert needed == (wanted[: len(needed)] if is_cut else wanted)
        self.start_over(copy, found)

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=100, stateful_step_count=25)


def test_a_damaged_record_ends_its_file_and_no_other(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, segment_bytes=100)
    records = [f"{number}".encode() * 40 for number in range(6)]  # two in each file
    for record in records:
        spool.append(record)
    spool.close()
    first = min(tmp_path.iterdir())
    damaged = bytearray(first.read_bytes())
    damaged[HEADER_BYTES + 20] ^= 1
    first.write_bytes(damaged)
    assert everything(spool_in(tmp_path)) == records[2:]


def test_beyond_its_bound_nothing_is_kept_until_something_is_finished(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=600, segment_bytes=200)
    record = b"x" * 92
    kept = 0
    while spool.append(record):
        kept += 1
    assert kept == 5
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 600
    for _ in range(2):  # a whole file
        taken = spool.take()
        assert taken is not None
        spool.finish(taken[0])
    assert spool.append(record)


def test_what_is_finished_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    for number in range(20):
        spool.append(b"x" * 50)
        if number % 2:
            continue
        while (taken := spool.take()) is not None:
            spool.finish(taken[0])
    spool.append(b"last")
    while (taken := spool.take()) is not None:
        spool.finish(taken[0])
    assert spool.num_bytes == HEADER_BYTES
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "spool")
    spool.append(b"a text of a customer")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").iterdir()] == [0o600]


def test_a_file_is_taken_over_when_its_owner_is_gone(tmp_path: Path) -> None:
    owner = spool_in(tmp_path)
    other = spool_in(tmp_path)
    owner.append(b"first")
    other.append(b"second")
    assert other.adopt() == 0
    owner.close()
    assert other.adopt() > 0
    assert everything(other) == [b"first", b"second"]


def test_a_killed_process_leaves_what_it_kept(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from serving.kafka.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), max_bytes=1 << 20)\n"
        "assert spool.append(b'kept')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        spool = spool_in(tmp_path)
        assert everything(spool) == []  # it lives
        process.send_signal(signal.SIGKILL)
        process.wait()
        spool.adopt()
        assert everything(spool) == [b"kept"]


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Limits the files of this process to `num_bytes`: a write stores what fits, and the next one is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_tears_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, segment_bytes=1_000)
    spool.append(b"a" * 50)
    with full_disk(100):
        for _ in range(2):
            with pytest.raises(OSError, match="too large"):
                spool.append(b"b" * 50)
    assert spool.append(b"c" * 10)
    spool.close()
    assert everything(spool_in(tmp_path)) == [b"a" * 50, b"c" * 10]


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    with full_disk(10), pytest.raises(OSError, match="too large"):
        spool.append(b"b")
    assert spool.append(b"c")
    assert everything(spool) == [b"c"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    spool = Spool(tmp_path / "file" / "spool", max_bytes=1_000)
    with pytest.raises(OSError, match="Not a directory"):
        spool.adopt()
    with pytest.raises(OSError, match="Not a directory"):
        spool.append(b"x")


def test_closed_it_keeps_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.append(b"a")
    taken = spool.take()
    assert taken is not None
    spool.close()
    spool.close()
    spool.finish(taken[0])
    assert not spool.append(b"b")
    assert everything(spool_in(tmp_path)) == [b"a"]


APPEND = """
import sys
from pathlib import Path
from serving.kafka.spool import Spool
spool = Spool(Path("spool"), max_bytes=1 << 20, is_synced=sys.argv[1] == "True")
assert spool.append(b"1") and spool.append(b"2")
"""


@pytest.mark.parametrize("is_synced", [False, True])
def test_a_power_cut_takes_what_no_disk_has_yet(tmp_path: Path, is_synced: bool) -> None:
    place = tmp_path / "machine" / "part"
    place.mkdir(parents=True)
    (tmp_path / "image").mkdir()
    disk = synced_folder(tmp_path / "machine", tmp_path / "image")
    if disk is None:
        missing("compiler", "the library that notes what is synced cannot be built")
    env = os.environ | disk.environment() | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", APPEND, str(is_synced)], cwd=place, env=env, check=True)
    disk.roll_back("part", random.Random(0))
    assert everything(spool_in(place / "spool")) == ([b"1", b"2"] if is_synced else [])
