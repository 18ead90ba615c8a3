"""The events and versions that kill a process: what was open when one died is tried alone, and then refused.

    Deaths.open(digests): noted in a slot of <folder>/<name>.open, a mapped file, until the block ends
    the process is killed within it --> its lock on the file is released --> any replica of the machine finds the notes
        --> <folder>/deaths.json: the deaths of each digest --> 1: tried alone    MAX_DEATHS: refused

An exception tells an event, a version and the machine apart (`serving/engine.py`). A kill tells nothing: memory that
runs out, a fault in a native kernel, an encoder of the user that crashes. The event was not finished, so Kafka gives it
to the next replica, and the plan makes the next process load the same version.

If several events were open, one of them may be to blame: each has one death, however often that happens. An event
that was open alone has one more each time. So an innocent event is at most tried alone, and one that kills is refused
after its second death. A version is always loaded alone. What is answered or loaded is cleared, and a death is
forgotten after KEPT_S, so that a kill from outside has no lasting effect.

Nothing waits for the disk (no fsync): the kernel keeps what a killed process has written into a mapped file.
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

from wire.files import atomic_write, locked, stamp_of

NUM_SLOTS: Final = 8
MAX_DIGESTS: Final = 1_024
"""Blocks of one process that are noted at a time, and digests of each. What is beyond them is not noted."""

DIGEST_BYTES: Final = 16
SUFFIX: Final = ".open"

_HEADER: Final = struct.Struct("<II")  # the number of digests of a slot, and whether it alone is to blame
_SLOT_BYTES: Final = _HEADER.size + MAX_DIGESTS * DIGEST_BYTES
_BYTES: Final = NUM_SLOTS * _SLOT_BYTES


class OpenBlock(NamedTuple):
    """Digests, in hexadecimal, of what was open together. `is_sole`: whatever else was open is not to blame."""

    digests: list[str]
    is_sole: bool


class OpenNotes:
    """The notes of this process. Any thread may call it; verbs: take, write, free, close.

    Raises OSError where the disk refuses the file.
    """

    def __init__(self, folder: Path) -> None:
        self._guard = threading.Lock()
        self._free = list(range(NUM_SLOTS))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path, self._fd = _new_file(folder)
        try:
            # a write into a hole of a full disk would end the process
            os.posix_fallocate(self._fd, 0, _BYTES)
            self._map = mmap.mmap(self._fd, _BYTES)
        except OSError:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            raise

    def take(self) -> int | None:
        """Returns a slot that nobody uses; None where there is none."""
        with self._guard:
            return self._free.pop() if self._free else None

    def write(self, slot: int, digests: Sequence[bytes], *, is_sole: bool) -> None:
        """Notes that the first MAX_DIGESTS of these are open."""
        noted = digests[:MAX_DIGESTS]
        begin = slot * _SLOT_BYTES
        content = b"".join(noted)
        self._map[begin + _HEADER.size : begin + _HEADER.size + len(content)] = content
        self._map[begin : begin + _HEADER.size] = _HEADER.pack(len(noted), is_sole)

    def free(self, slot: int) -> None:
        """Empties a slot, and gives it back."""
        begin = slot * _SLOT_BYTES
        self._map[begin : begin + _HEADER.size] = _HEADER.pack(0, 0)
        with self._guard:
            self._free.append(slot)

    def close(self) -> None:
        """Removes the file. No slot may be in use."""
        self.path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._fd)


def dead_notes(folder: Path, own: Path) -> Iterator[list[OpenBlock]]:
    """Yields what each dead process had open whose notes lie in `folder`, and removes them. Raises OSError."""
    for path in folder.glob(f"*{SUFFIX}"):
        notes = _taken_over(path) if path != own else None
        if notes is not None:
            blocks = [_block_of(notes[begin : begin + _SLOT_BYTES]) for begin in range(0, len(notes), _SLOT_BYTES)]
            yield [block for block in blocks if block.digests]


def _new_file(folder: Path) -> tuple[Path, int]:
    """Makes a locked file; tries another name if `dead_notes` of another process was faster than the lock."""
    while True:
        path = folder / f"{secrets.token_hex(8)}{SUFFIX}"
        fd = locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if fd is not None:
            return path, fd


def _taken_over(path: Path) -> bytes | None:
    """Removes the notes at `path`, and returns them; None where their process lives, or another was faster."""
    try:
        fd = locked(os.open(path, os.O_RDWR))
    except (FileNotFoundError, PermissionError):
        return None
    if fd is None:
        return None
    try:
        path.unlink(missing_ok=True)
        return os.pread(fd, _BYTES, 0)
    finally:
        os.close(fd)


def _block_of(slot: bytes) -> OpenBlock:
    """Returns what a slot holds; nothing where it is cut off."""
    if len(slot) < _SLOT_BYTES:
        return OpenBlock([], is_sole=False)
    num, is_sole = _HEADER.unpack_from(slot)
    ends = range(_HEADER.size, _HEADER.size + min(num, MAX_DIGESTS) * DIGEST_BYTES, DIGEST_BYTES)
    return OpenBlock([slot[begin : begin + DIGEST_BYTES].hex() for begin in ends], bool(is_sole))


MAX_DEATHS: Final = 2
"""Deaths from which on an event or a version is refused."""

KEPT_S: Final = 600.0
"""Time after which a death is forgotten."""

MAX_KEPT: Final = 4_096
"""Most digests whose deaths are kept: those that died last."""

FIND_S: Final = 0.5
"""Interval at which dead processes are looked for."""

log = structlog.get_logger("deaths")


class _Death(msgspec.Struct, frozen=True, array_like=True):
    count: int
    time_s: float


def digest_of(content: str) -> bytes:
    """Returns the digest by which an event's content, or a version, is noted."""
    return blake2b(content.encode(), digest_size=DIGEST_BYTES).digest()


class Deaths:
    """What this process has open, and the deaths that were found on this machine. Any thread may call it.

    Without a folder, or where the disk refuses the file, nothing is noted, and nothing is refused.
    """

    def __init__(self, folder: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._found: dict[str, _Death] = {}
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
        """Notes that these are tried until the block ends. `is_sole` says that nothing else that is open is to blame.

        An empty digest is not noted. If the block `clears`, it forgets their deaths when it has ended without an error.
        """
        notes = self._notes
        noted = [digest for digest in digests if digest]
        slot = notes.take() if notes is not None and noted else None
        if notes is None or slot is None:
            yield
        else:
            try:
                notes.write(slot, noted, is_sole=is_sole)
                yield
            finally:
                notes.free(slot)
        if clears and self._found:
            self.clear(digests)

    def is_refused(self, digest: bytes) -> bool:
        """Whether what has this digest has died MAX_DEATHS times lately."""
        self._find_when_due()
        return self._count(digest) >= MAX_DEATHS

    def groups(self, digests: Sequence[bytes]) -> list[list[int]]:
        """Returns the rows of `digests` that may be tried, in groups that may be tried together: everything without a
        death, and each row with one alone. The rows of what is refused are left out."""
        self._find_when_due()
        if not self._found:
            return [list(range(len(digests)))] if digests else []
        counts = [self._count(digest) for digest in digests]
        together = [row for row, count in enumerate(counts) if not count]
        alone = [[row] for row, count in enumerate(counts) if 0 < count < MAX_DEATHS]
        return [together, *alone] if together else alone

    def clear(self, digests: Sequence[bytes]) -> None:
        """Forgets the deaths of what was answered, or loaded."""
        if not any(self._count(digest) for digest in digests):
            return
        try:
            with self._guard, self._table() as table:
                for digest in digests:
                    table.pop(digest.hex(), None)
        except OSError as error:
            log.warning("deaths_not_cleared", error=str(error))

    def close(self) -> None:
        """Removes the notes of this process: it ends in order. Idempotent; nothing may be open."""
        if self._notes is not None:
            self._notes.close()
            self._notes = None

    def _count(self, digest: bytes) -> int:
        death = self._found.get(digest.hex()) if self._found else None
        return death.count if death is not None and self._clock() - death.time_s < KEPT_S else 0

    def _find_when_due(self) -> None:
        """Counts what dead processes had open, and reads what others have counted."""
        notes = self._notes
        with self._guard:
            if notes is None or time.monotonic() < self._next_find_s:
                return
            self._next_find_s = time.monotonic() + FIND_S
            try:
                dead = list(dead_notes(self._folder, notes.path))
                if dead or stamp_of(self._table_path) != self._stamp:
                    with self._table() as table:
                        for blocks in dead:
                            self._count_dead(table, blocks)
            except OSError as error:
                log.warning("deaths_not_found", error=str(error))

    def _count_dead(self, table: dict[str, _Death], blocks: list[OpenBlock]) -> None:
        num_open = sum(len(block.digests) for block in blocks)
        has_sole = any(block.is_sole for block in blocks)
        for block in blocks:
            is_to_blame = block.is_sole or (num_open == 1 and not has_sole)
            for digest in block.digests:
                before = table.pop(digest, _Death(0, 0.0)).count
                table[digest] = _Death(before + 1 if is_to_blame else max(before, 1), self._clock())
        if num_open:
            log.warning("process_was_killed", open=num_open)

    @property
    def _table_path(self) -> Path:
        return self._folder / "deaths.json"

    @contextmanager
    def _table(self) -> Iterator[dict[str, _Death]]:
        """Yields the deaths that are known on this machine, and keeps what the block makes of them. Raises OSError."""
        fd = os.open(self._folder / "deaths.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            read = _read(self._table_path)
            table = dict(read)
            yield table
            if table != read:
                table = dict(list(table.items())[-MAX_KEPT:])
                with atomic_write(self._table_path, mode=0o600) as file:
                    file.write(msgspec.json.encode(table))
            self._found = table
            self._stamp = stamp_of(self._table_path)
        finally:
            os.close(fd)


def _read(path: Path) -> dict[str, _Death]:
    """Returns the deaths in a file, the latest last; none where there is no such file, or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Death])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
