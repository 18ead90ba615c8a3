"""The journal of a checkpoint: what was learnt since, so that versions without a checkpoint can be returned to.

    checkpoint, journal: samples, version 8 | samples, version 9 | ...      what version 9 knew: all of them

The journal lies beside its checkpoint and goes with it. An entry is appended before its version is sent: so every
version that the store has is in a journal, unless it has a checkpoint of its own. A kill may tear the last entry, whose
version was not sent then. A journal is not synced: after a power cut its end may be missing, torn, zeros, or the bytes
of another file. Whatever is no entry ends it, and the versions that it had from there on cannot be returned to.

Rejected: reading the labels again from the topics (it needs the windows of the join as they were, and topics may have
dropped records), and taking the labels since out of the sums (exact, but the memories cannot be put back).
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec

from learner.errors import CheckpointFailed
from learner.labels.sample import Sample
from wire.records import ConceptChange

SUFFIX: Final = ".journal"

MAX_SAMPLES: Final = 20_000
"""A journal with so many samples is followed by another checkpoint at once."""

_HEADER: Final = Struct("<II")
"""Length and CRC-32 of an entry."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The samples that were learnt since the entry before, and the changes of concepts where they were found.

    `version` is the one that knows them, 0 for none.
    """

    version: int
    epoch: int
    samples: Sequence[Sample | ConceptChange]

    @property
    def mark(self) -> tuple[int, int]:
        return self.version, self.epoch


class Journal:
    """The journal that is being written. `marks` has the version and the epoch of each entry."""

    def __init__(self, path: Path) -> None:
        """Begins a new file at `path`. Raises CheckpointFailed."""
        self.path = path
        self.marks: set[tuple[int, int]] = set()
        self.num_samples = 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CheckpointFailed(f"{path}: {error}") from error

    def append(self, entry: Entry) -> None:
        """Appends an entry, which survives a kill then. Raises CheckpointFailed: nothing may be appended after that."""
        data = msgspec.msgpack.encode(entry)
        data = _HEADER.pack(len(data), zlib.crc32(data)) + data
        try:
            num_written = os.write(self._file, data)
        except OSError as error:
            raise CheckpointFailed(f"{self.path}: {error}") from error
        if num_written != len(data):
            raise CheckpointFailed(f"{self.path}: {num_written} of {len(data)} bytes were written")
        self.marks.add(entry.mark)
        self.num_samples += len(entry.samples)

    def close(self) -> None:
        os.close(self._file)


def read_journal(path: Path) -> list[Entry]:
    """Returns the whole entries of a journal, up to the first that is not; [] if there is no journal."""
    entries: list[Entry] = []
    for body in whole_entries(path):
        try:
            entries.append(msgspec.msgpack.decode(body, type=Entry))
        except msgspec.DecodeError:
            # Another file had these bytes, or another release wrote them.
            break
    return entries


def whole_entries(path: Path) -> Iterator[bytes]:
    """Yields the encoded entries of a journal, up to the first that is torn, or that is not there.

    After a power cut a file may end in zeros. They are the header of an entry without bytes, with the right checksum.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return
    start = 0
    while start + _HEADER.size <= len(data):
        num_bytes, checksum = _HEADER.unpack_from(data, start)
        body = data[start + _HEADER.size : start + _HEADER.size + num_bytes]
        start += _HEADER.size + num_bytes
        if not num_bytes or len(body) != num_bytes or zlib.crc32(body) != checksum:
            return
        yield body
