"""Records on disk until they are done with: a queue in files, bounded in bytes, that outlives its process. No threads.

    append --> 000000000007.spool --take--> record --finish--> (all of a file is finished) --> the file is removed

    file   = magic, checksum of the offset, offset before which everything is finished; then records
    record = length, checksum of length and payload, payload

All replicas of a machine share a folder. Each writes to files of its own, and keeps them locked while it lives: a file
that can be locked has lost its owner, and `adopt` takes it over. So what a killed replica left is sent by another one,
and what was finished but not yet noted as such is sent again.

Nothing waits for the disk (no fsync): what was appended survives the end of the process, not that of the machine. The
first record that is cut off, or is not what its checksum says, ends its file: whatever lies behind it is given up.

Rejected: SQLite (a journal and a lock for each record of what is a queue), and one file for all processes (they would
wait for each other, and could remove a file only when all of them are done).
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

MAGIC = b"LLS1"
SUFFIX = ".spool"
SEGMENT_BYTES = 1 << 20
"""A file that has as much is not appended to any more, so that it can be removed when its records are finished."""

_HEADER = struct.Struct(">4sIQ")
_OFFSET = struct.Struct(">Q")
_RECORD = struct.Struct(">II")
_LENGTH = struct.Struct(">I")


class Spool:
    """The records of this process, and those it took over, oldest first.

    To be guarded by its owner: nothing here is thread-safe. Verbs: adopt, append, take, finish, close.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._current: _Segment | None = None  # one of them: where records are appended
        self._is_closed = False

    @property
    def num_bytes(self) -> int:
        """Of all files that we hold."""
        return sum(segment.end for segment in self._segments)

    def adopt(self) -> int:
        """Takes over the files whose owner is gone, and returns their bytes. OSError where the folder is unusable."""
        self._make_folder()
        mine = {segment.path for segment in self._segments}
        adopted = [segment for path in self._paths() if path not in mine and (segment := _opened(path)) is not None]
        self._segments = sorted([*self._segments, *adopted], key=lambda segment: segment.path.name)
        return sum(segment.end - segment.position for segment in adopted)

    def append(self, data: bytes) -> bool:
        """Whether there was room for `data` under the bound. OSError, and nothing changed, where the disk refuses."""
        if self._is_closed or self.num_bytes + _HEADER.size + _RECORD.size + len(data) > self._max_bytes:
            return False
        if self._current is None or self._current.end >= self._segment_bytes:
            self._current = self._new_segment()
            self._segments.append(self._current)
        self._current.append(data)
        return True

    def take(self) -> "tuple[Mark, bytes] | None":
        """The oldest record that was not taken yet, and the mark to finish it by; None where there is none."""
        for segment in tuple(self._segments):
            if (found := segment.take()) is not None:
                end, data = found
                return Mark(segment, end), data
            self._discard_if_spent(segment)
        return None

    def finish(self, mark: "Mark") -> None:
        """The record is done with. It does not come again, unless we are killed while an older one is not finished."""
        if not self._is_closed:
            mark.segment.finish(mark.end)
            self._discard_if_spent(mark.segment)

    def close(self) -> None:
        """Leaves what is not finished to whoever adopts it. Does nothing the second time."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._current = None
        self._is_closed = True

    def _discard_if_spent(self, segment: "_Segment") -> None:
        if not segment.is_spent:
            return
        if segment is self._current:
            segment.empty()
        else:
            self._segments.remove(segment)
            segment.close()

    def _new_segment(self) -> "_Segment":
        """A file with the next number, locked. Whoever adopts files may be faster, and remove ours: then one more."""
        self._make_folder()
        number = max((int(path.stem) for path in self._paths()), default=0)
        while True:
            number += 1
            path = self._folder / f"{number:012d}{SUFFIX}"
            with suppress(FileExistsError):
                made = _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                if made is not None:
                    return _Segment(path, made)

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


class _Segment:
    """A file that this process has locked. What is finished ends before what was taken, and that before the end."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.end = max(os.fstat(fd).st_size, _HEADER.size)
        self._finished = _finished(os.pread(fd, _HEADER.size, 0))
        self.position = self._finished  # of the next record to take
        self._taken: dict[int, bool] = {}  # in order, by the end of each record: whether it is finished

    @property
    def is_spent(self) -> bool:
        """Whether nothing here is needed any more."""
        return self.position >= self.end and not self._taken

    def append(self, data: bytes) -> None:
        """OSError where the disk has no room: what was written of the record is taken back."""
        with self._undone_on_error():
            if self.end == _HEADER.size:
                _write(self._fd, _header(self._finished), 0)
            _write(self._fd, _record(data), self.end)
        self.end += _RECORD.size + len(data)

    def take(self) -> tuple[int, bytes] | None:
        """The next record and where it ends. Where it is torn, the file ends before it."""
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
        """Notes the longest prefix that is finished. Where the disk does not take the note, more is sent again."""
        self._taken[end] = True
        while self._taken and (first := next(iter(self._taken.items())))[1]:
            self._finished = first[0]
            del self._taken[first[0]]
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def empty(self) -> None:
        """Gives its space back. A kill between the two steps leaves an offset behind the end: nothing to read."""
        if self.end == _HEADER.size:
            return
        with suppress(OSError):
            os.ftruncate(self._fd, _HEADER.size)
        self.end = self.position = self._finished = _HEADER.size
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def close(self) -> None:
        """Removes the file where nothing in it is needed, and gives the lock back."""
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
        except OSError:  # the disk cannot read it
            return None
        return data if _checksum(data) == checksum and len(data) == length else None

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise


@dataclass(frozen=True, slots=True)
class Mark:
    """A record that was taken: `finish` it."""

    segment: _Segment
    end: int


def _opened(path: Path) -> _Segment | None:
    """None where its owner lives or has just removed it, or where it belongs to another user."""
    try:
        fd = _locked(os.open(path, os.O_RDWR))
    except (FileNotFoundError, PermissionError):
        return None
    return _Segment(path, fd) if fd is not None else None


def _locked(fd: int) -> int | None:
    """`fd`, locked; None, and closed, where another process has the lock, or has removed the file before we had it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    if os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def _header(finished: int) -> bytes:
    return _HEADER.pack(MAGIC, crc32(_OFFSET.pack(finished)), finished)


def _finished(header: bytes) -> int:
    """The offset in a header; where it cannot be believed, that of the first record: all are read again."""
    if len(header) < _HEADER.size:
        return _HEADER.size
    _, checksum, finished = _HEADER.unpack(header)
    is_right = header == _header(finished) and checksum == crc32(_OFFSET.pack(finished))
    return int(finished) if is_right else _HEADER.size


def _record(data: bytes) -> bytes:
    return _RECORD.pack(len(data), _checksum(data)) + data


def _checksum(data: bytes) -> int:
    return crc32(data, crc32(_LENGTH.pack(len(data))))


def _write(fd: int, data: bytes, offset: int) -> None:
    """All of it: a disk that gets full takes a part first."""
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
