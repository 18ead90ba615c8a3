"""A durable queue of HTTP answers: files, bounded in bytes, that outlive their process.

    AnswerSpool.keep --> [Spool] --take--> Answer, mark --(the broker has it)--> finish
    append --> 000000000007.spool --take--> record --finish--> (all records are finished) --> the file is removed

    file   = magic, checksum of the offset, offset before which everything is finished; then records
    record = length, checksum of length and payload, payload

All replicas of a machine share a folder. Each replica writes to its own files, and keeps them locked while it lives. If
a file can be locked, its owner is dead, and `adopt` takes the file over. So another replica sends the records of a
killed replica. It sends a record again if the record was finished, but was not yet marked as finished on the disk.

A `Segment` is one file. Its records are taken in order, and finished in any order. The first record that is truncated,
or does not match its checksum, ends the file: the records after it are lost.

Appended records survive the end of the process. If the spool is synced (`serving.spool_sync`), `append` returns only
when the record is on the disk, so records also survive a power cut. A spool is not thread-safe: its owner must hold a
lock.

Rejected: SQLite (a journal and a lock for each record of a plain queue), and one file for all processes (they would
wait for each other, and could remove a file only when all of them had finished it).
"""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from zlib import crc32

import msgspec
import structlog

from serving.observers import Counts
from wire.files import lock_or_close, sync_path
from wire.records import Answer

MAGIC = b"LLS1"

_HEADER = struct.Struct(">4sIQ")
_OFFSET = struct.Struct(">Q")
_RECORD = struct.Struct(">II")
_LENGTH = struct.Struct(">I")

MAX_OVERHEAD_BYTES = _HEADER.size + _RECORD.size
"""Largest number of bytes that a record adds to its payload: its own header, and the file's."""


class Segment:
    """A file of records that this process has locked. Its offsets ascend: finished, taken (`position`), end."""

    def __init__(self, path: Path, fd: int, *, is_synced: bool = False) -> None:
        self.path = path
        self._fd = fd
        self._is_synced = is_synced
        self.end = max(os.fstat(fd).st_size, _HEADER.size)
        self._finished = _finished_offset(os.pread(fd, _HEADER.size, 0))
        self.position = self._finished
        """The offset of the next record to take."""
        # The end offset of each taken record -> whether it is finished, in the file's order.
        self._taken: dict[int, bool] = {}

    @property
    def is_spent(self) -> bool:
        """Whether every record is taken and finished."""
        return self.position >= self.end and not self._taken

    def append(self, data: bytes) -> None:
        """Writes a record. If the disk refuses it, removes the part that was written, and raises OSError."""
        with self._truncated_on_error():
            # The first record of an empty file comes with the header.
            if self.end == _HEADER.size:
                _write(self._fd, _header(self._finished), 0)
            _write(self._fd, _record(data), self.end)
            if self._is_synced:
                os.fdatasync(self._fd)
        self.end += _RECORD.size + len(data)

    def take(self) -> tuple[int, bytes] | None:
        """Returns the end offset and the data of the next record, or None. A torn record ends the file."""
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
        """Marks the record that ends at `end` as finished, and writes the end of the finished prefix to the file.

        If the disk refuses the write, more records than necessary are sent again after a kill.
        """
        self._taken[end] = True
        # The header has one offset, so records count as finished on disk only up to the first unfinished one.
        while self._taken:
            first_end, is_finished = next(iter(self._taken.items()))
            if not is_finished:
                break
            self._finished = first_end
            del self._taken[first_end]
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def empty(self) -> None:
        """Removes all records from the file, which frees its space."""
        if self.end == _HEADER.size:
            return
        # If the process is killed between the two steps, the finished offset is beyond the end, so there is nothing to
        # read.
        with suppress(OSError):
            os.ftruncate(self._fd, _HEADER.size)
        self.end = _HEADER.size
        self.position = _HEADER.size
        self._finished = _HEADER.size
        with suppress(OSError):
            _write(self._fd, _header(self._finished), 0)

    def close(self) -> None:
        """Removes the file if all its records are finished, and releases the lock."""
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
        except OSError:
            # A read error of the disk ends the file like a torn record.
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


def new_segment(path: Path, *, is_synced: bool = False) -> Segment | None:
    """Makes a locked file. Returns None if another replica adopted and removed it first. Raises FileExistsError."""
    fd = lock_or_close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    if fd is None:
        return None
    if is_synced:
        sync_path(path.parent)
    return Segment(path, fd, is_synced=is_synced)


def abandoned_segment(path: Path) -> Segment | None:
    """Opens a file whose owner is dead.

    Returns None if the owner lives or has just removed the file, or if the file belongs to another user.
    """
    try:
        fd = lock_or_close(os.open(path, os.O_RDWR))
    except (FileNotFoundError, PermissionError):
        return None
    return Segment(path, fd) if fd is not None else None


def _header(finished: int) -> bytes:
    return _HEADER.pack(MAGIC, crc32(_OFFSET.pack(finished)), finished)


def _finished_offset(header: bytes) -> int:
    """Returns the finished offset in a header. If the header is damaged, the offset of the first record."""
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
    """Writes all of `data`. One call may write only a part, for example if the disk is nearly full."""
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)


SUFFIX = ".spool"
SEGMENT_BYTES = 1 << 20
"""Records are appended to a file up to this size. Then a new file begins, so that old files can be removed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Identifies a taken record, to `finish` it."""

    segment: Segment
    end: int


class Spool:
    """The records of this process, and the records that it has adopted, the oldest first.

    It is not thread-safe: its owner must hold a lock.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES, is_synced: bool = False
    ) -> None:
        self._folder = folder
        self._is_synced = is_synced
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        # The segment to which records are appended.
        self._current: Segment | None = None
        self._is_closed = False

    @property
    def num_bytes(self) -> int:
        """The bytes of all files that this process holds."""
        return sum(segment.end for segment in self._segments)

    def adopt(self) -> int:
        """Takes over the files of dead processes. Returns the bytes of their records that are not taken.

        Raises OSError if the folder cannot be used.
        """
        self._make_folder()
        own = {segment.path for segment in self._segments}
        adopted: list[Segment] = []
        for path in self._paths():
            segment = None if path in own else abandoned_segment(path)
            if segment is not None:
                adopted.append(segment)
        self._segments = sorted([*self._segments, *adopted], key=lambda segment: segment.path.name)
        return sum(segment.end - segment.position for segment in adopted)

    def append(self, data: bytes) -> bool:
        """Appends a record. Returns False if the spool's bound is reached, or the spool is closed.

        Raises OSError if the disk refuses the write; the spool is unchanged then.
        """
        if self._is_closed or self.num_bytes + MAX_OVERHEAD_BYTES + len(data) > self._max_bytes:
            return False
        if self._current is None or self._current.end >= self._segment_bytes:
            self._current = self._new_segment()
            self._segments.append(self._current)
        self._current.append(data)
        return True

    def take(self) -> tuple[Mark, bytes] | None:
        """Returns the mark and the data of the oldest record that was not taken yet; None if there is none."""
        for segment in tuple(self._segments):
            taken = segment.take()
            if taken is not None:
                end, data = taken
                return Mark(segment, end), data
            self._discard_if_spent(segment)
        return None

    def finish(self, mark: Mark) -> None:
        """Marks a record as finished. It is sent again only if the process is killed while an older record is
        unfinished."""
        if not self._is_closed:
            mark.segment.finish(mark.end)
            self._discard_if_spent(mark.segment)

    def close(self) -> None:
        """Releases the files, so that another replica can adopt the unfinished records. Idempotent."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._current = None
        self._is_closed = True

    def _discard_if_spent(self, segment: Segment) -> None:
        if not segment.is_spent:
            return
        # The current file is used again, because a new file for each answer would be slow.
        if segment is self._current:
            segment.empty()
        else:
            self._segments.remove(segment)
            segment.close()

    def _new_segment(self) -> Segment:
        """Makes a locked file with the next free number."""
        self._make_folder()
        number = max((int(path.stem) for path in self._paths()), default=0)
        # Another replica may take the number, or adopt and remove the new file: then try the next number.
        while True:
            number += 1
            with suppress(FileExistsError):
                segment = new_segment(self._folder / f"{number:012d}{SUFFIX}", is_synced=self._is_synced)
                if segment is not None:
                    return segment

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._is_synced:
            sync_path(self._folder.parent)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


ADOPT_INTERVAL_S = 10.0
"""Interval in seconds at which the answers of dead replicas are adopted."""

log = structlog.get_logger("outbox")


class KeepResult(Enum):
    KEPT = "kept"
    NO_ROOM = "no_room"
    """The spool is full."""
    NO_DISK = "no_disk"
    """There is no spool folder, or its disk is full or broken."""


@dataclass(frozen=True, slots=True)
class SpooledAnswer:
    answer: Answer
    mark: Mark


class AnswerSpool:
    """The answers in a spool. Without a spool it keeps nothing. It is not thread-safe: its owner must hold a lock."""

    def __init__(self, spool: Spool | None, counts: Counts) -> None:
        self._spool = spool
        self._counts = counts
        self._decoder = msgspec.json.Decoder(Answer)
        self.has_failed = False
        """Whether the disk refused the last answer."""
        self.next_adopt_s = math.inf if spool is None else -math.inf
        """The time of the next adoption, on the monotonic clock."""

    def keep(self, answer: Answer) -> KeepResult:
        """Writes an answer to the spool."""
        if self._spool is None:
            return KeepResult.NO_DISK
        try:
            is_kept = self._spool.append(msgspec.json.encode(answer))
        except OSError as error:
            self._log_change(error)
            return KeepResult.NO_DISK
        self._log_change(None)
        return KeepResult.KEPT if is_kept else KeepResult.NO_ROOM

    def take(self) -> SpooledAnswer | None:
        """Returns the oldest answer that was not taken yet; None if there is none.

        Drops answers that cannot be decoded, for example answers of another release.
        """
        while self._spool is not None:
            taken = self._spool.take()
            if taken is None:
                break
            mark, data = taken
            try:
                return SpooledAnswer(self._decoder.decode(data), mark)
            except msgspec.DecodeError as error:
                self._counts.add("kept_unreadable")
                log.error("kept_unreadable", error=str(error))
                self._spool.finish(mark)
        return None

    def finish(self, mark: Mark) -> None:
        """Removes an answer, because the broker has the answer or its dead letter."""
        if self._spool is not None:
            self._spool.finish(mark)

    def adopt(self, now_s: float) -> bool:
        """Adopts the answers of dead replicas, if that is due. Returns whether there are new answers."""
        if self._spool is None or now_s < self.next_adopt_s:
            return False
        self.next_adopt_s = now_s + ADOPT_INTERVAL_S
        try:
            num_bytes = self._spool.adopt()
        except OSError as error:
            self._log_change(error)
            return False
        if num_bytes:
            log.info("kept_answers_adopted", bytes=num_bytes)
        return num_bytes > 0

    def close(self) -> None:
        """Leaves the unfinished answers to the next replica."""
        self.next_adopt_s = math.inf
        if self._spool is not None:
            self._spool.close()

    def _log_change(self, error: OSError | None) -> None:
        """Logs when the disk begins to fail, and when it works again."""
        if (error is not None) == self.has_failed:
            return
        self.has_failed = error is not None
        if error is not None:
            log.error("answers_not_kept_on_disk", error=str(error))
        else:
            log.info("answers_kept_on_disk_again")
