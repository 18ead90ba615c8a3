"""Rolls a folder back to what its disk would hold after a power cut, and finds what was in the tails that the cut took.

    programs with synced.c preloaded --fsync--> image --roll_back, after they were killed--> folder, Tails
    Tails of a cut --whole batches that are left--> what is lost --ids in it--> LostTails, by the number of the event

Exact is what a sync made durable: the bytes of each file as of its last fsync, and names in the order of a journal
(synced.c). A model is the rest: every WRITE_BACK_S the kernel writes back what no program has synced, all at once
(`write_back`; Linux: vm.dirty_expire_centisecs), and of a file's unsynced end nothing survives, or a part, or a part
and zeros, as the seed draws. Memory-mapped files are gone: Apache Kafka makes its indexes again.

Rejected: LazyFS (FUSE: it needs a device that containers do not have, and slows each read), device-mapper (root), and
a copy of the folder at a moment (it holds what was never synced).
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
"""The age at which Linux writes bytes back that nobody has synced."""

MAPPED = (".index", ".timeindex")
"""The ends of the names of files that are changed by a mapping, which synced.c does not see."""

BEFORE = ".before-the-cut"
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Tail:
    """The bytes that a file has lost: `written` from `kept` on."""

    path: str
    """The file, from the folder."""
    kept: int
    written: bytes
    synced_s: float
    """When the file was synced last, by the wall clock; 0 where it never was."""

    @property
    def lost(self) -> bytes:
        return self.written[self.kept :]


@dataclass(frozen=True, slots=True)
class Name:
    """A durable name."""

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
    """A folder, and the image of what was synced of it, which lies elsewhere."""

    def __init__(self, folder: Path, image: Path, library: Path) -> None:
        self._folder = folder.resolve()
        self._image = image.resolve()
        self._library = library
        (self._image / "data").mkdir()

    def environment(self) -> dict[str, str]:
        """Returns the environment variables of a program whose syncs in the folder count."""
        return {
            "LD_PRELOAD": str(self._library),
            "CHAOS_FOLDER": str(self._folder),
            "CHAOS_IMAGE": str(self._image),
        }

    def write_back(self) -> None:
        """Syncs everything, as a kernel does with old bytes. What is removed meanwhile is passed over."""
        argv = ["find", str(self._folder), "-type", "f"]
        for suffix in MAPPED:
            argv += ["!", "-name", f"*{suffix}"]
        argv += ["-exec", "sync", "{}", "+"]
        subprocess.run(argv, env=os.environ | self.environment(), capture_output=True, check=False)

    def roll_back(self, part: str, rng: random.Random) -> list[Tail]:
        """Rolls the file or folder `part` back, none of whose processes lives; returns what was lost."""
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
            tails += _nameless(before, part, {name.path for name in durable})
            _remove(before)
            self._replace_images([name for name in names if name.is_below(part)], rebuilt)
            others = [name for name in names if not name.is_below(part)]
            self._write_names([*others, *rebuilt])
        return tails

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps the programs that still run from syncing: their walk must not see a folder that is half there."""
        with (self._image / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _names(self) -> list[Name]:
        names = self._image / "names"
        lines = names.read_text().splitlines() if names.exists() else []
        return [Name.parse(line) for line in lines]

    def _write_names(self, names: list[Name]) -> None:
        (self._image / "names").write_text("".join(f"{name.line}\n" for name in names))

    def _data(self, inode: int) -> Path:
        return self._image / "data" / str(inode)

    def _rebuild(self, name: Name, earlier: Path, rng: random.Random) -> Tail:
        """Makes what a name stands for; returns what its file has lost."""
        path = self._folder / name.path
        if name.kind == "d":
            path.mkdir()
            path.chmod(name.mode)
            return Tail(name.path, 0, b"", 0.0)
        if name.kind == "l":
            path.symlink_to(name.target)
            return Tail(name.path, 0, b"", 0.0)
        image = self._data(name.inode)
        synced = image.read_bytes() if image.exists() else b""
        synced_s = image.stat().st_mtime if image.exists() else 0.0
        # Another file of the name may have come since, whose bytes are no end of this one.
        written = earlier.read_bytes() if earlier.exists() and earlier.stat().st_ino == name.inode else b""
        is_longer = written.startswith(synced)  # else synced bytes were overwritten, or cut off: nothing tears
        surviving, zeros = _torn(written[len(synced) :], rng) if is_longer else (b"", b"")
        content = synced + surviving + zeros
        path.write_bytes(content)
        path.chmod(name.mode)
        return Tail(name.path, _common(content, written), written, synced_s)

    def _replace_images(self, old: list[Name], new: list[Name]) -> None:
        """What lies in the folder now is on the disk, under other inodes."""
        for name in old:
            self._data(name.inode).unlink(missing_ok=True)
        for name in new:
            if name.kind == "f":
                shutil.copyfile(self._folder / name.path, self._data(name.inode))


def synced_folder(folder: Path, image: Path) -> SyncedFolder | None:
    """Makes the image of a folder in the empty folder `image`; returns None without a C compiler."""
    library = shared_library(SOURCE, image)
    return SyncedFolder(folder, image, library) if library else None


def _torn(tail: bytes, rng: random.Random) -> tuple[bytes, bytes]:
    """Draws what survives of an unsynced end, and the zeros in the place of what does not.

    Half of the ends are lost whole. The others are cut off anywhere, or have their size on the disk, but not all pages.
    """
    place = rng.random()
    cut = rng.randrange(len(tail) + 1)
    if place < 0.5:
        return b"", b""
    if place < 0.75:
        return tail[:cut], b""
    whole_pages = cut - cut % PAGE
    return tail[:whole_pages], b"\0" * (len(tail) - whole_pages)


def _common(one: bytes, other: bytes) -> int:
    """Returns the number of bytes that both begin with."""
    begin, end = 0, min(len(one), len(other))
    while begin < end:
        middle = (begin + end + 1) // 2
        if one[begin:middle] == other[begin:middle]:
            begin = middle
        else:
            end = middle - 1
    return begin


def _nameless(before: Path, part: str, durable: set[str]) -> list[Tail]:
    """Returns the files whose very names are lost."""
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
"""The topic of what is committed: where its tail is lost, events are answered again."""

PREFIX = "chaos-"
"""What the id of an event of ours begins with."""

BATCH_START = struct.Struct(">qi")
"""The base offset of a batch, and its bytes after these two."""

FIELD = re.compile(rb'"event_id":"chaos-(\d+)"')
"""What names the event in an answer and in a label."""

HEADER = re.compile(rb"ce_id(.)chaos-(\d+)", re.DOTALL)
"""The header of an event that names it: before the id comes twice its length, and digits may follow it."""


@dataclass(slots=True)
class LostTails:
    """What all power cuts so far have taken, by the number of the event; an answer in a spool counts as an answer."""

    events: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    num_bytes: int = 0
    synced_s: float = 0.0
    """The wall clock when what the last cut has taken of the broker was synced last; the time of the cut for others."""

    @property
    def numbers(self) -> set[int]:
        """The events of which something was lost."""
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
        """Adds what a cut at `cut_s`, by the wall clock, has taken."""
        kept = {Event.TOPIC: self.events, Answer.TOPIC: self.answers, Feedback.TOPIC: self.labels}
        self.synced_s = cut_s
        for tail in tails:
            self.num_bytes += len(tail.lost)
            match = LOG.fullmatch(tail.path)
            topic = match["topic"] if match else ""
            if topic in kept:
                data = tail.written[end_of_batches(tail) :]
                kept[topic].update(events_in(data) if topic == Event.TOPIC else named_in(data))
            elif tail.path.endswith(".spool"):
                self.answers.update(named_in(tail.lost))
            if topic in kept or topic == OFFSETS:
                self.synced_s = min(self.synced_s, tail.synced_s)


def end_of_batches(tail: Tail) -> int:
    """Returns the end of the last batch that a segment has kept whole: the broker cuts it off there."""
    end = 0
    while end + BATCH_START.size <= tail.kept:
        _, num_bytes = BATCH_START.unpack_from(tail.written, end)
        if num_bytes <= 0 or end + BATCH_START.size + num_bytes > tail.kept:
            break
        end += BATCH_START.size + num_bytes
    return end


def named_in(data: bytes) -> list[int]:
    """Returns the number of the event that each answer or label names."""
    return [int(digits) for digits in FIELD.findall(data)]


def events_in(data: bytes) -> list[int]:
    """Returns the number of each event.

    >>> events_in(b"ce_id" + bytes([2 * len("chaos-17")]) + b"chaos-1788")
    [17]
    """
    return [int(digits[: length[0] // 2 - len(PREFIX)]) for length, digits in HEADER.findall(data)]
