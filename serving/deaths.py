"""Finds the events and versions that kill a process. A suspect is tried alone, and is refused after its second death.

    Deaths.open(digests): they are noted in a slot of <folder>/<name>.open, a mapped file, until the block ends
    the process is killed in the block --> the lock on its file is released --> another replica finds the notes
        --> <folder>/deaths.json: the number of deaths of each digest --> 1: tried alone    MAX_DEATHS: refused

If the model raises an exception, the engine finds out whether an event, a version or the machine is to blame. It cannot
do this if the process is killed, because memory ran out, or a native kernel or a user's encoder crashed. The event is
unfinished, so Kafka gives it to the next replica. A version is still in the plan, so the next process loads it. Without
these notes, the same event or version would kill one process after another.

- If several events were open when a process died, any of them may be to blame. Each of them then has one death, however
  often this happens.
- If only one event was open, its number of deaths grows by one. So an innocent event is at worst tried alone, and an
  event that kills is refused after its second death.
- A version is always loaded alone.
- The deaths of an event are forgotten when it is answered, and those of a version when it is loaded. Every death is
  forgotten after KEPT_S, so a process that was killed from outside has no lasting effect.

Nothing waits for the disk (no fsync): the kernel keeps the bytes that a killed process has written into a mapped file.
"""

import fcntl
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from wire.files import atomic_write, file_stamp, lock_or_close

NUM_SLOTS: Final = 8
"""Number of blocks that one process can note at the same time. Further blocks are not noted."""

MAX_DIGESTS: Final = 1_024
"""Number of digests that a block can note. Further digests are not noted."""

DIGEST_BYTES: Final = 16
SUFFIX: Final = ".open"

# The number of digests in a slot, and whether the slot alone is to blame (`OpenBlock.is_sole`).
_HEADER: Final = struct.Struct("<II")
_SLOT_BYTES: Final = _HEADER.size + MAX_DIGESTS * DIGEST_BYTES
_BYTES: Final = NUM_SLOTS * _SLOT_BYTES


class OpenBlock(NamedTuple):
    """Hexadecimal digests of events or of a version that were open together.

    If `is_sole`, only this block is to blame for a death, even if other blocks were open.
    """

    digests: list[str]
    is_sole: bool


class OpenNotes:
    """The notes of this process: a mapped and locked file of slots. Any thread may call it.

    The constructor raises OSError if the disk refuses the file.
    """

    def __init__(self, folder: Path) -> None:
        self._guard = threading.Lock()
        self._free = list(range(NUM_SLOTS))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path, self._fd = _new_file(folder)
        try:
            # Without the allocation, a write into the mapped file would kill the process if the disk is full.
            os.posix_fallocate(self._fd, 0, _BYTES)
            self._map = mmap.mmap(self._fd, _BYTES)
        except OSError:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            raise

    def take(self) -> int | None:
        """Returns a free slot and reserves it; None if no slot is free."""
        with self._guard:
            return self._free.pop() if self._free else None

    def write(self, slot: int, digests: Sequence[bytes], *, is_sole: bool) -> None:
        """Notes that the first MAX_DIGESTS of `digests` are open."""
        noted = digests[:MAX_DIGESTS]
        begin = slot * _SLOT_BYTES
        content = b"".join(noted)
        # The header comes last: until then the slot is empty for a reader.
        self._map[begin + _HEADER.size : begin + _HEADER.size + len(content)] = content
        self._map[begin : begin + _HEADER.size] = _HEADER.pack(len(noted), is_sole)

    def free(self, slot: int) -> None:
        """Empties a slot and returns it to the free slots."""
        begin = slot * _SLOT_BYTES
        self._map[begin : begin + _HEADER.size] = _HEADER.pack(0, 0)
        with self._guard:
            self._free.append(slot)

    def close(self) -> None:
        """Removes the file. All slots must be free."""
        self.path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._fd)


def dead_notes(folder: Path, own: Path) -> Iterator[list[OpenBlock]]:
    """Yields the blocks that were open in each dead process whose notes are in `folder`, and removes its file.

    `own` is the file of this process, which is skipped. Raises OSError.
    """
    for path in folder.glob(f"*{SUFFIX}"):
        notes = _take_over(path) if path != own else None
        if notes is not None:
            blocks = [_parse_slot(notes[begin : begin + _SLOT_BYTES]) for begin in range(0, len(notes), _SLOT_BYTES)]
            yield [block for block in blocks if block.digests]


def _new_file(folder: Path) -> tuple[Path, int]:
    """Makes a locked file. Returns its path and file descriptor."""
    # Another process may take the file over before it is locked. Then this process tries another name.
    while True:
        path = folder / f"{secrets.token_hex(8)}{SUFFIX}"
        fd = lock_or_close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if fd is not None:
            return path, fd


def _take_over(path: Path) -> bytes | None:
    """Removes the file of a dead process, and returns its bytes.

    Returns None if the process lives, or if another process has taken the file over.
    """
    try:
        fd = lock_or_close(os.open(path, os.O_RDWR))
    except (FileNotFoundError, PermissionError):
        return None
    if fd is None:
        return None
    try:
        path.unlink(missing_ok=True)
        return os.pread(fd, _BYTES, 0)
    finally:
        os.close(fd)


def _parse_slot(slot: bytes) -> OpenBlock:
    """Returns the block in a slot; one without digests if the slot is free or truncated."""
    if len(slot) < _SLOT_BYTES:
        return OpenBlock([], is_sole=False)
    num, is_sole = _HEADER.unpack_from(slot)
    ends = range(_HEADER.size, _HEADER.size + min(num, MAX_DIGESTS) * DIGEST_BYTES, DIGEST_BYTES)
    return OpenBlock([slot[begin : begin + DIGEST_BYTES].hex() for begin in ends], bool(is_sole))


MAX_DEATHS: Final = 2
"""An event or a version with this many deaths is refused."""

KEPT_S: Final = 600.0
"""Time in seconds after which a death is forgotten."""

MAX_KEPT: Final = 4_096
"""Most digests whose deaths are kept. The oldest deaths are dropped first."""

FIND_S: Final = 0.5
"""Interval in seconds at which a replica looks for dead processes."""

log = structlog.get_logger("deaths")


class _Death(msgspec.Struct, frozen=True, array_like=True):
    count: int
    time_s: float


def compute_digest(content: str) -> bytes:
    """Returns the digest that identifies an event's content, or a version's name, in the notes."""
    return blake2b(content.encode(), digest_size=DIGEST_BYTES).digest()


class Deaths:
    """Notes the events and versions that this process has open, and knows the deaths found on this machine.

    Any thread may call it. Without a folder, or if the disk refuses the file, nothing is noted and nothing is refused.
    """

    def __init__(self, folder: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        # The known deaths by digest.
        self._deaths: dict[str, _Death] = {}
        # The stamp of the file with the deaths when it was last read.
        self._stamp: object = None
        self._next_find_s = 0.0
        self._folder = folder or Path()
        self._notes: OpenNotes | None = None
        if folder is not None:
            try:
                self._notes = OpenNotes(folder)
            except OSError as error:
                log.warning("deaths_not_noted", folder=str(folder), error=str(error))
        self._find_when_due()

    @contextmanager
    def open(self, digests: Sequence[bytes], *, is_sole: bool = False, clears: bool = False) -> Iterator[None]:
        """Notes that `digests` are open until the block ends. Empty digests are not noted.

        If `is_sole`, only these digests are to blame if the process dies within the block. If `clears`, their deaths
        are forgotten when the block ends without an error.
        """
        notes = self._notes
        noted = [digest for digest in digests if digest]
        slot = notes.take() if notes is not None and noted else None
        # If all slots are in use, the block is not noted.
        if notes is None or slot is None:
            yield
        else:
            try:
                notes.write(slot, noted, is_sole=is_sole)
                yield
            finally:
                notes.free(slot)
        if clears and self._deaths:
            self.clear(digests)

    def is_refused(self, digest: bytes) -> bool:
        """Whether the event or version with this digest had MAX_DEATHS deaths within KEPT_S."""
        self._find_when_due()
        return self._count(digest) >= MAX_DEATHS

    def groups(self, digests: Sequence[bytes]) -> list[list[int]]:
        """Returns the indices of the digests that may be tried, in groups that are tried together.

        The first group has all digests without a death. Each digest with a death is a group of its own. Digests with
        MAX_DEATHS deaths are left out, because they are refused.
        """
        self._find_when_due()
        # The usual case: no death is known.
        if not self._deaths:
            return [list(range(len(digests)))] if digests else []
        counts = [self._count(digest) for digest in digests]
        together = [row for row, count in enumerate(counts) if not count]
        alone = [[row] for row, count in enumerate(counts) if 0 < count < MAX_DEATHS]
        return [together, *alone] if together else alone

    def clear(self, digests: Sequence[bytes]) -> None:
        """Forgets the deaths of events that were answered, or of versions that were loaded."""
        if not any(self._count(digest) for digest in digests):
            return
        try:
            with self._guard, self._table() as table:
                for digest in digests:
                    table.pop(digest.hex(), None)
        except OSError as error:
            log.warning("deaths_not_cleared", error=str(error))

    def close(self) -> None:
        """Removes this process's notes, because it ends in order. Idempotent; no block may be open."""
        if self._notes is not None:
            self._notes.close()
            self._notes = None

    def _count(self, digest: bytes) -> int:
        death = self._deaths.get(digest.hex()) if self._deaths else None
        return death.count if death is not None and self._clock() - death.time_s < KEPT_S else 0

    def _find_when_due(self) -> None:
        """Counts the deaths of processes that have died, and reads the deaths that other replicas have counted.

        Does nothing if the last search was less than FIND_S ago.
        """
        notes = self._notes
        with self._guard:
            if notes is None or time.monotonic() < self._next_find_s:
                return
            self._next_find_s = time.monotonic() + FIND_S
            try:
                dead = list(dead_notes(self._folder, notes.path))
                # The table's stamp changes if another replica has counted deaths.
                if dead or file_stamp(self._table_path) != self._stamp:
                    with self._table() as table:
                        for blocks in dead:
                            self._count_dead(table, blocks)
            except OSError as error:
                log.warning("deaths_not_found", error=str(error))

    def _count_dead(self, table: dict[str, _Death], blocks: list[OpenBlock]) -> None:
        num_open = sum(len(block.digests) for block in blocks)
        has_sole = any(block.is_sole for block in blocks)
        for block in blocks:
            # If there is only one suspect, its number of deaths grows. If there are several, each has at least one
            # death.
            is_to_blame = block.is_sole or (num_open == 1 and not has_sole)
            for digest in block.digests:
                # `pop` moves the digest to the end, so the table stays in the order of the deaths.
                before = table.pop(digest, _Death(0, 0.0)).count
                table[digest] = _Death(before + 1 if is_to_blame else max(before, 1), self._clock())
        if num_open:
            log.warning("process_was_killed", open=num_open)

    @property
    def _table_path(self) -> Path:
        return self._folder / "deaths.json"

    @contextmanager
    def _table(self) -> Iterator[dict[str, _Death]]:
        """Yields the deaths known on this machine, under a lock, and stores the block's changes. Raises OSError."""
        fd = os.open(self._folder / "deaths.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            stored = _read(self._table_path)
            table = dict(stored)
            yield table
            if table != stored:
                table = dict(list(table.items())[-MAX_KEPT:])
                with atomic_write(self._table_path, mode=0o600) as file:
                    file.write(msgspec.json.encode(table))
            self._deaths = table
            self._stamp = file_stamp(self._table_path)
        finally:
            os.close(fd)


def _read(path: Path) -> dict[str, _Death]:
    """Returns the deaths in a file, the latest last; none if the file does not exist or cannot be decoded."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Death])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
