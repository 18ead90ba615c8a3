"""Rolls a folder back to the state that its disk would have after a power cut, and lists the lost records.

    programs with synced.c preloaded --fsync--> image --roll_back, after the programs were killed--> folder, Tails
    Tails of a cut --without whole batches that survive--> lost bytes --ids in them--> LostTails, by event number

**Exact.** Synced data survives: the bytes of each file as of its last fsync, and names in the order of a journal
(synced.c).

**Modelled.** Every WRITE_BACK_S the kernel writes back all unsynced bytes at once (`write_back`; in Linux:
vm.dirty_expire_centisecs). The unsynced end of a file is lost, or survives in part, or survives in part with zeros
after it; the seed decides. Memory-mapped files are lost: Apache Kafka rebuilds its indexes.

Rejected: LazyFS (FUSE: it needs a device that containers do not have, and slows each read), device-mapper (needs root),
and a copy of the folder (it also contains bytes that were never synced).
"""

import fcntl
import os
import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.sandbox import shared_library
from wire.records import Answer, Event, Feedback

SOURCE = Path(__file__).with_name("synced.c")

WRITE_BACK_S = 30.0
"""The age in seconds at which Linux writes unsynced bytes back."""

MAPPED = (".index", ".timeindex")
"""The suffixes of files that are changed through a memory mapping, which synced.c does not see."""

BEFORE = ".before-the-cut"
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file that a power cut took: the bytes of `written` after the first `kept` bytes."""

    path: str
    """The path of the file, relative to the folder."""
    kept: int
    written: bytes
    synced_s: float
    """The wall-clock time of the file's last sync; 0 if it was never synced."""

    @property
    def lost(self) -> bytes:
        return self.written[self.kept :]


@dataclass(frozen=True, slots=True)
class Name:
    """A durable name of a file, folder or link."""

    kind: str
    mode: int
    inode: int
    path: str
    target: str

    @classmethod
    def parse(cls, line: str) -> "Name":
        kind, mode, inode, path, target = line.split("\t")
        return cls(kind, int(mode, 8), int(inode), path, target)

    @property
    def line(self) -> str:
        return f"{self.kind}\t{self.mode:o}\t{self.inode}\t{self.path}\t{self.target}"

    def is_below(self, part: str) -> bool:
        return self.path == part or self.path.startswith(f"{part}/")


class SyncedFolder:
    """A folder, and an image of its synced state in another folder."""

    def __init__(self, folder: Path, image: Path, library: Path) -> None:
        self._folder = folder.resolve()
        self._image = image.resolve()
        self._library = library
        (self._image / "data").mkdir()

    def environment(self) -> dict[str, str]:
        """Returns the environment variables with which the syncs of a program in the folder are recorded."""
        return {
            "LD_PRELOAD": str(self._library),
            "CHAOS_FOLDER": str(self._folder),
            "CHAOS_IMAGE": str(self._image),
        }

    def write_back(self) -> None:
        """Syncs all files, as a kernel does with old bytes. Files that are removed meanwhile are skipped."""
        argv = ["find", str(self._folder), "-type", "f"]
        for suffix in MAPPED:
            argv += ["!", "-name", f"*{suffix}"]
        argv += ["-exec", "sync", "{}", "+"]
        subprocess.run(argv, env=os.environ | self.environment(), capture_output=True, check=False)

    def roll_back(self, part: str, rng: random.Random) -> list[Tail]:
        """Rolls the file or folder `part` back; returns the lost tails. Its processes must have ended."""
        with self._locked():
            names = self._names()
            before = self._folder / f"{part}{BEFORE}"
            if (self._folder / part).exists():
                (self._folder / part).rename(before)
            durable = [name for name in names if name.is_below(part) and not name.path.endswith(MAPPED)]
            tails: list[Tail] = []
            rebuilt: list[Name] = []
            for name in durable:
                earlier = before / name.path[len(part) :].lstrip("/") if name.path != part else before
                tail = self._rebuild(name, earlier, rng)
                if tail.lost:
                    tails.append(tail)
                inode = (self._folder / name.path).lstat().st_ino
                rebuilt.append(Name(name.kind, name.mode, inode, name.path, name.target))
            tails += _unnamed_files(before, part, {name.path for name in durable})
            _remove(before)
            self._replace_images([name for name in names if name.is_below(part)], rebuilt)
            others = [name for name in names if not name.is_below(part)]
            self._write_names([*others, *rebuilt])
        return tails

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Blocks the syncs of running programs, which must not list the names of a folder that is half rolled back."""
        with (self._image / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _names(self) -> list[Name]:
        names = self._image / "names"
        lines = names.read_text().splitlines() if names.exists() else []
        return [Name.parse(line) for line in lines]

    def _write_names(self, names: list[Name]) -> None:
        (self._image / "names").write_text("".join(f"{name.line}\n" for name in names))

    def _find_image(self, inode: int) -> Path:
        """Returns the path of the synced bytes of a file."""
        return self._image / "data" / str(inode)

    def _rebuild(self, name: Name, earlier: Path, rng: random.Random) -> Tail:
        """Creates the file, folder or link of a durable name; returns the tail that the file has lost.

        `earlier` is the file with this name before the cut.
        """
        path = self._folder / name.path
        if name.kind == "d":
            path.mkdir()
            path.chmod(name.mode)
            return Tail(name.path, 0, b"", 0.0)
        if name.kind == "l":
            path.symlink_to(name.target)
            return Tail(name.path, 0, b"", 0.0)
        image = self._find_image(name.inode)
        synced = image.read_bytes() if image.exists() else b""
        synced_s = image.stat().st_mtime if image.exists() else 0.0
        # Another file may have got this name since the last sync. Its bytes do not continue the synced ones.
        written = earlier.read_bytes() if earlier.exists() and earlier.stat().st_ino == name.inode else b""
        content = synced
        # If synced bytes were overwritten or truncated, the file falls back to its synced state.
        if written.startswith(synced):
            surviving, zeros = _draw_surviving(written[len(synced) :], rng)
            content = synced + surviving + zeros
        path.write_bytes(content)
        path.chmod(name.mode)
        return Tail(name.path, _common_length(content, written), written, synced_s)

    def _replace_images(self, old: list[Name], new: list[Name]) -> None:
        """Replaces the images of the old files by the rebuilt files, which have new inodes and count as synced."""
        for name in old:
            self._find_image(name.inode).unlink(missing_ok=True)
        for name in new:
            if name.kind == "f":
                shutil.copyfile(self._folder / name.path, self._find_image(name.inode))


def synced_folder(folder: Path, image: Path) -> SyncedFolder | None:
    """Makes the image of a folder in the empty folder `image`; returns None without a C compiler."""
    library = shared_library(SOURCE, image)
    return SyncedFolder(folder, image, library) if library else None


def _draw_surviving(tail: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    """Draws which bytes of an unsynced tail survive, and how many zeros follow them.

    Half of the tails are lost as a whole, and a quarter is cut off at any byte. The last quarter keeps its length, but
    not all of its pages: the lost pages are zeros.
    """
    place = rng.random()
    cut = rng.randrange(len(tail) + 1)
    if place < 0.5:
        return b"", b""
    if place < 0.75:
        return tail[:cut], b""
    whole_pages = cut - cut % PAGE
    return tail[:whole_pages], b"\0" * (len(tail) - whole_pages)


def _common_length(one: bytes, other: bytes) -> int:
    """Returns the length of the common prefix, by binary search."""
    begin = 0
    end = min(len(one), len(other))
    while begin < end:
        middle = (begin + end + 1) // 2
        if one[begin:middle] == other[begin:middle]:
            begin = middle
        else:
            end = middle - 1
    return begin


def _unnamed_files(before: Path, part: str, durable: set[str]) -> list[Tail]:
    """Returns the tails of files whose names are lost, too."""
    files = [path for path in before.rglob("*") if path.is_file() and not path.is_symlink()]
    tails: list[Tail] = []
    for path in files:
        name = f"{part}/{path.relative_to(before)}"
        if name not in durable and not name.endswith(MAPPED):
            tails.append(Tail(name, 0, path.read_bytes(), 0.0))
    return tails


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


LOG = re.compile(r"kafka/logs/(?P<topic>.+)-\d+/\d+\.log")
"""A segment of a partition."""

OFFSETS = "__consumer_offsets"
"""The topic of committed offsets. If its tail is lost, events are answered again."""

PREFIX = "chaos-"
"""The prefix of the ids of the load's events."""

BATCH_START = struct.Struct(">qi")
"""The start of a batch: its base offset, and its length in bytes after these two fields."""

FIELD = re.compile(rb'"event_id":"chaos-(\d+)"')
"""The field of an answer or a label that names its event."""

HEADER = re.compile(rb"ce_id(.)chaos-(\d+)", re.DOTALL)
"""The header with the id of an event. A byte before the id has twice the id's length; digits may follow the id."""


@dataclass(slots=True)
class LostTails:
    """The records that all power cuts so far have taken, by event number. An answer in a spool counts as an answer."""

    events: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    num_bytes: int = 0
    synced_s: float = 0.0
    """A wall-clock time: the last sync of the broker's files that lost a tail in the last cut.

    If the broker lost no tail, it is the time of the cut.
    """

    @property
    def numbers(self) -> set[int]:
        """The events that lost a record: their own, an answer, or a label."""
        return self.events.keys() | self.answers.keys() | self.labels.keys()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of events, answers and labels in the tails, and their bytes."""
        return {
            "events": self.events.total(),
            "answers": self.answers.total(),
            "labels": self.labels.total(),
            "bytes": self.num_bytes,
        }

    def add(self, tails: Iterable[Tail], *, cut_s: float) -> None:
        """Adds the tails of a cut. `cut_s` is the wall-clock time of the cut."""
        counters = {Event.TOPIC: self.events, Answer.TOPIC: self.answers, Feedback.TOPIC: self.labels}
        self.synced_s = cut_s
        for tail in tails:
            self.num_bytes += len(tail.lost)
            match = LOG.fullmatch(tail.path)
            topic = match["topic"] if match else ""
            if topic in counters:
                lost = tail.written[end_of_whole_batches(tail) :]
                numbers = event_numbers_in_headers(lost) if topic == Event.TOPIC else event_numbers_in_payloads(lost)
                counters[topic].update(numbers)
            elif tail.path.endswith(".spool"):
                self.answers.update(event_numbers_in_payloads(tail.lost))
            if topic in counters or topic == OFFSETS:
                self.synced_s = min(self.synced_s, tail.synced_s)


def end_of_whole_batches(tail: Tail) -> int:
    """Returns the end of the last whole batch in the kept part of a segment. The broker truncates the segment there."""
    end = 0
    while end + BATCH_START.size <= tail.kept:
        _, num_bytes = BATCH_START.unpack_from(tail.written, end)
        if num_bytes <= 0 or end + BATCH_START.size + num_bytes > tail.kept:
            break
        end += BATCH_START.size + num_bytes
    return end


def event_numbers_in_payloads(data: bytes) -> list[int]:
    """Returns the event number of each answer or label in the bytes of a log."""
    return [int(digits) for digits in FIELD.findall(data)]


def event_numbers_in_headers(data: bytes) -> list[int]:
    """Returns the number of each event in the bytes of a log.

    >>> event_numbers_in_headers(b"ce_id" + bytes([2 * len("chaos-17")]) + b"chaos-1788")
    [17]
    """
    return [int(digits[: length[0] // 2 - len(PREFIX)]) for length, digits in HEADER.findall(data)]
