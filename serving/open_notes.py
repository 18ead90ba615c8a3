"""The notes of one process: digests of what it has open, in a mapped file that outlives it. Knows no meaning of them.

    take a slot --write(digests)--> <folder>/<name>.open --free--> empty again
    the process is killed --> its lock on the file is released --> dead_notes: what it had open, once

Nothing waits for the disk (no fsync): the kernel keeps what a killed process has written into a mapped file.

Rejected: a file that is written anew for each batch (system calls each time, where a mapped page costs a copy).
"""

import mmap
import os
import secrets
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wire.files import locked

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
