"""Records on disk until they are finished: a queue in files, bounded in bytes, that outlives its process. No threads.

    append --> 000000000007.spool --take--> record --finish--> (all of a file is finished) --> the file is removed

All replicas of a machine share a folder. Each replica writes to files of its own, and keeps them locked while it lives.
A file that can be locked has lost its owner, and `adopt` takes it over. So the records of a killed replica are sent by
another one, and a record that was finished but not yet written down as such is sent again.

Nothing waits for the disk (no fsync): appended records survive the end of the process, not that of the machine.
`serving/kafka/segment.py` has the format of a file.

Rejected: SQLite (a journal and a lock for each record of a plain queue), and one file for all processes (they would
wait for each other, and could remove a file only when all of them had finished it).
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving.kafka.segment import MAX_OVERHEAD_BYTES, Segment, abandoned_segment, new_segment

SUFFIX = ".spool"
SEGMENT_BYTES = 1 << 20
"""A file of this size is not appended to any more, so that it can be removed when its records are finished."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Identifies a taken record, to `finish` it."""

    segment: Segment
    end: int


class Spool:
    """The records of this process, and those that it adopted, oldest first.

    It is not thread-safe: its owner guards it. Verbs: adopt, append, take, finish, close.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._current: Segment | None = None  # the one of them to which records are appended
        self._is_closed = False

    @property
    def num_bytes(self) -> int:
        """The bytes of all files that this process holds."""
        return sum(segment.end for segment in self._segments)

    def adopt(self) -> int:
        """Takes over the files whose owner is gone, and returns their bytes. Raises OSError for an unusable folder."""
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
        """Appends a record; returns False where it does not fit under the bound.

        Raises OSError where the disk refuses the write; the spool is unchanged then.
        """
        if self._is_closed or self.num_bytes + MAX_OVERHEAD_BYTES + len(data) > self._max_bytes:
            return False
        if self._current is None or self._current.end >= self._segment_bytes:
            self._current = self._new_segment()
            self._segments.append(self._current)
        self._current.append(data)
        return True

    def take(self) -> tuple[Mark, bytes] | None:
        """Returns the oldest record that was not taken yet, with the mark to finish it by; None where there is none."""
        for segment in tuple(self._segments):
            taken = segment.take()
            if taken is not None:
                end, data = taken
                return Mark(segment, end), data
            self._discard_if_spent(segment)
        return None

    def finish(self, mark: Mark) -> None:
        """Marks the record as finished. It does not come again, unless we are killed while an older one is open."""
        if not self._is_closed:
            mark.segment.finish(mark.end)
            self._discard_if_spent(mark.segment)

    def close(self) -> None:
        """Leaves the unfinished records to whoever adopts them. Idempotent."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._current = None
        self._is_closed = True

    def _discard_if_spent(self, segment: Segment) -> None:
        if not segment.is_spent:
            return
        if segment is self._current:
            segment.empty()
        else:
            self._segments.remove(segment)
            segment.close()

    def _new_segment(self) -> Segment:
        """Makes a locked file with the next free number; tries the next one where an adopter was faster and removed
        it."""
        self._make_folder()
        number = max((int(path.stem) for path in self._paths()), default=0)
        while True:
            number += 1
            with suppress(FileExistsError):
                segment = new_segment(self._folder / f"{number:012d}{SUFFIX}")
                if segment is not None:
                    return segment

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())
