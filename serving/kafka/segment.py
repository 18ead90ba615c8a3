"""One file of a spool: records that are appended, taken in order, and finished in any order.

    file   = magic, checksum of the offset, offset before which everything is finished; then records
    record = length, checksum of length and payload, payload

The process that has a segment open holds the lock on its file. The first record that is cut off, or does not match its
checksum, ends the file: the records behind it are given up.

Rejected: writing the file anew when records are finished (each answer would be written many times; one offset in the
header says as much), and a database (whose file is not simply left to the next replica when its process is killed).
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

from wire.files import locked

MAGIC = b"LLS1"

_HEADER = struct.Struct(">4sIQ")
_OFFSET = struct.Struct(">Q")
_RECORD = struct.Struct(">II")
_LENGTH = struct.Struct(">I")

MAX_OVERHEAD_BYTES = _HEADER.size + _RECORD.size
"""Bytes that a record may add to its payload: those of its own header, and of the file's."""


class Segment:
    """A file that this process has locked. The offsets ascend: finished, then taken (`position`), then the end."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.end = max(os.fstat(fd).st_size, _HEADER.size)
        self._finished = _finished_offset(os.pread(fd, _HEADER.size, 0))
        self.position = self._finished
        """The offset of the next record to take."""
        self._taken: dict[int, bool] = {}  # the end of each taken record, in order: whether it is finished

    @property
    def is_spent(self) -> bool:
        """Whether every record is taken and finished."""
        return self.position >= self.end and not self._taken

    def append(self, data: bytes) -> None:
        """Writes a record. Raises OSError where the disk has no room, after removing what was written of it."""
        with self._truncated_on_error():
            if self.end == _HEADER.size:
                _write(self._fd, _header(self._finished), 0)
            _write(self._fd, _record(data), self.end)
        self.end += _RECORD.size + len(data)

    def take(self) -> tuple[int, bytes] | None:
        """Returns where the next record ends, and its data. A torn record ends the file."""
        if self.position >= self.end:
            return None
        data = self._read(self.position)
        if data is None:
            self.end = self.position
            return None
        self.position += _RECORD.size + len(data)
        self._taken[self.position] = False
        return self.position, data

    def finish(self, end: int) -> None:
        """Writes down the longest finished prefix. Where the disk refuses the write, more records are sent again."""
        self._taken[end] = True
        while self._taken:
            first_end, is_finished = next(iter(self._taken.items()))
            if not is_finished:
                break
            self._finished = first_end
            del self._taken[first_end]
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def empty(self) -> None:
        """Frees its space. A kill between the two steps leaves an offset beyond the end: there is nothing to read."""
        if self.end == _HEADER.size:
            return
        with suppress(OSError):
            os.ftruncate(self._fd, _HEADER.size)
        self.end = _HEADER.size
        self.position = _HEADER.size
        self._finished = _HEADER.size
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def close(self) -> None:
        """Removes the file where all of it is finished, and releases the lock."""
        if self.is_spent:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _read(self, position: int) -> bytes | None:
        try:
            head = os.pread(self._fd, _RECORD.size, position)
            if len(head) < _RECORD.size:
                return None
            length, checksum = _RECORD.unpack(head)
            if position + _RECORD.size + length > self.end:
                return None
            data = os.pread(self._fd, length, position + _RECORD.size)
        except OSError:  # a read error of the disk ends the file like a torn record
            return None
        return data if _checksum(data) == checksum and len(data) == length else None

    @contextmanager
    def _truncated_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise


def new_segment(path: Path) -> Segment | None:
    """Makes the file; None where an adopter locked and removed it first. Raises FileExistsError."""
    fd = locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    return Segment(path, fd) if fd is not None else None


def abandoned_segment(path: Path) -> Segment | None:
    """Opens the file; None where its owner lives or has just removed it, or where it belongs to another user."""
    try:
        fd = locked(os.open(path, os.O_RDWR))
    except (FileNotFoundError, PermissionError):
        return None
    return Segment(path, fd) if fd is not None else None


def _header(finished: int) -> bytes:
    return _HEADER.pack(MAGIC, crc32(_OFFSET.pack(finished)), finished)


def _finished_offset(header: bytes) -> int:
    """Returns the offset in a header. Where the header is damaged, that of the first record: all are read again."""
    if len(header) < _HEADER.size:
        return _HEADER.size
    _, checksum, finished = _HEADER.unpack(header)
    is_intact = header == _header(finished) and checksum == crc32(_OFFSET.pack(finished))
    return int(finished) if is_intact else _HEADER.size


def _record(data: bytes) -> bytes:
    return _RECORD.pack(len(data), _checksum(data)) + data


def _checksum(data: bytes) -> int:
    return crc32(data, crc32(_LENGTH.pack(len(data))))


def _write(fd: int, data: bytes, offset: int) -> None:
    """Writes all of `data`: a disk that is nearly full accepts only a part of it at first."""
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
