"""Checkpoints: everything that the learner knows, offsets included, in one file that is whole or refused; and journals.

    Snapshot -> temporary file -> (fsync ->) rename (-> fsync of the folder)        newest() -> the newest whole one
    checkpoint, journal: samples, version 8 | samples, version 9 | ...      what version 9 knew: all of them

Weights, sums, memory, windows, counters and offsets are one file, so what was learnt and what was read can never
disagree: a restart seeks to the offsets inside, and each label has its effect once.

A file is named after its sequence number, the epoch of the leader that wrote it, and the version that it was published
as (0: none). The epoch is a fencing token: of two files the one of the higher epoch is newer, and a leader whose epoch
is not the highest in the folder writes nothing. A leader that slept over its lease may already have passed that check.
Its file is then older than all files of its successor, which wrote one before it did anything else. A file's name does
not prove what was published: that is what the store has under the number of the version. The newest few files are kept,
and those of versions that the rollout may return to.

A file survives a kill as soon as it has its name, and a power cut only after fsync, which the writer may leave out. So
the newest file that was synced is kept, too, and a learner that goes on from it reads the labels since then once more.
Thereby most files of a stream of versions are removed before they ever reach the disk.

What is learnt between two checkpoints is in the journal of the first, so that versions without a checkpoint can be
returned to. The journal lies beside its checkpoint and goes with it. An entry is appended before its version is sent:
so every version that the store has is in a journal, unless it has a checkpoint of its own. A kill may tear the last
entry, whose version was not sent then. A journal is not synced: after a power cut its end may be missing, torn, zeros,
or the bytes of another file. Whatever is no entry ends it, and the versions that it had from there on cannot be
returned to.

Rejected: one file per part (a kill between two of them mixes two states), a journal that leads from the beginning to
now (replaying it needs the encoders of that time), and reading the labels again from the topics in place of a journal
(it needs the windows of the join as they were, and topics may have dropped records).
"""

import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from learner.errors import CheckpointFailed, CheckpointRefused, CheckpointUnknown, StateRefused
from learner.failpoints import failpoint
from learner.samples import Sample
from learner.state.snapshot import Snapshot, decode, encode
from wire.errors import StaleEpoch
from wire.files import DRAFT_SUFFIX, atomic_write
from wire.records import ConceptChange, WeightManifest

_NAME: Final = re.compile(r"(?P<sequence>\d{9})(-e(?P<epoch>\d+))?-v(?P<version>\d+)\.checkpoint")
"""Files without an epoch were written before there was one in the name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointFile:
    """A checkpoint in the folder, by its name."""

    path: Path
    sequence: int
    epoch: int
    version: int

    @property
    def order(self) -> tuple[int, int]:
        """The newer one of two checkpoints has the greater value."""
        return self.epoch, self.sequence


def named(paths: Iterable[Path]) -> Iterator[CheckpointFile]:
    """Yields those of the paths that have the name of a checkpoint."""
    for path in paths:
        if name := _NAME.fullmatch(path.name):
            epoch = int(name["epoch"] or 0)
            yield CheckpointFile(path=path, sequence=int(name["sequence"]), epoch=epoch, version=int(name["version"]))


def newest_first(paths: Iterable[Path]) -> list[CheckpointFile]:
    """Returns those of the paths that have the name of a checkpoint, newest first."""
    return sorted(named(paths), key=lambda entry: entry.order, reverse=True)


JOURNAL_SUFFIX: Final = ".journal"

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


class VersionState(NamedTuple):
    """What was known when a version was published: a checkpoint, and the samples that were learnt after it."""

    snapshot: Snapshot
    samples: Sequence[Sample | ConceptChange] = ()


class Checkpoints:
    """The checkpoints in one folder with their journals, which one learner at a time writes.

    `on_written` is called with each new file; it may raise StaleEpoch and CheckpointFailed. `shared` returns the
    checkpoints at the shared address; it may raise StoreUnavailable.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_newest: int,
        on_written: Callable[[Path], None] = lambda _path: None,
        shared: Callable[[], Sequence[CheckpointFile]] = tuple,
    ) -> None:
        self._folder = folder
        self._num_newest = num_newest
        self._on_written = on_written
        self._shared = shared
        folder.mkdir(parents=True, exist_ok=True)
        self.synced: Path | None = None
        """The newest file of this process that is known to be on the disk itself."""
        self.refused: list[str] = []
        """Files that were refused, with the reason."""
        self.journal: Journal | None = None
        """The journal of the newest checkpoint of this process, if one was begun."""
        self._marks: dict[Path, frozenset[tuple[int, int]]] = {}

    def write(self, snapshot: Snapshot, *, is_synced: bool = True) -> Path:
        """Writes a snapshot. Afterwards it survives a kill, and with `is_synced` a power cut, too.

        Raises StaleEpoch where a later leader has written, and CheckpointFailed.
        """
        epoch = snapshot.facts.epoch
        self._check_epoch(epoch)
        path = self.next_path(snapshot)
        data = encode(snapshot)
        half = len(data) // 2

        def before_rename() -> None:
            self._check_epoch(epoch)
            failpoint("before-rename")

        try:
            with atomic_write(path, is_synced=is_synced, before_rename=before_rename) as file:
                file.write(data[:half])
                failpoint("in-checkpoint")
                file.write(data[half:])
        except OSError as error:
            raise CheckpointFailed(f"{path}: {error}") from error
        if is_synced:
            self.synced = path
        self._on_written(path)
        return path

    def newest(self) -> Snapshot | None:
        """Returns the newest checkpoint that is whole; None where the folder has none at all.

        Torn ones are passed over and noted in `refused`. Raises StateRefused where no other is left, or where this
        program cannot read the newest whole one: going on from an older one would throw away what is there.
        """
        entries = self.entries()
        for entry in entries:
            try:
                return self._read(entry)
            except CheckpointUnknown as error:
                raise StateRefused(f"{entry.path}: {error}. {REMEDY}") from error
            except CheckpointRefused as error:
                self.refused.append(f"{entry.path.name}: {error}")
        if entries:
            raise StateRefused(f"{self._folder}: no checkpoint is whole ({'; '.join(self.refused)}). {REMEDY}")
        return None

    def begin_journal(self, path: Path) -> Journal:
        """Begins the journal of the checkpoint at `path`, and ends that of the one before. Raises CheckpointFailed."""
        if self.journal is not None:
            self._marks[self.journal.path] = frozenset(self.journal.marks)
            self.journal.close()
            self.journal = None
        self.journal = Journal(path.with_suffix(JOURNAL_SUFFIX))
        return self.journal

    def find_version(self, manifest: WeightManifest) -> VersionState | None:
        """Returns the state that was published as `manifest`, which the store has; None where it is not kept."""
        mark = (manifest.version, manifest.epoch)
        for entry in self.entries():
            is_marked = mark in self._marks_of(entry)
            if entry.version != manifest.version and not is_marked:
                continue
            try:
                snapshot = self._read(entry)
            except CheckpointRefused as error:
                self.refused.append(f"{entry.path.name}: {error}")
                continue
            if is_marked:
                return VersionState(
                    snapshot, _samples_until(mark, read_journal(entry.path.with_suffix(JOURNAL_SUFFIX)))
                )
            if is_same_version(snapshot.facts.pending, manifest):
                return VersionState(snapshot)
        return None

    def prune(self, versions: Iterable[int], *, since: int = 0) -> None:
        """Removes all but the newest few, the newest that was synced, and the newest that leads to each of `versions`.

        Journals go with their checkpoints, and so do files that a kill left half written. What is older than the
        checkpoint of version `since` goes even where it is the newest that was synced.
        """
        entries = self.entries()
        needed = set(versions) - {0}
        places = [place for place, entry in enumerate(entries) if since and entry.version == since]
        num_newest = min(self._num_newest, 1 + max(places, default=len(entries)))
        newest_of: dict[int, Path] = {}
        for entry in reversed(entries):
            newest_of |= dict.fromkeys(self._versions_of(entry), entry.path)
        oldest_kept = max(places, default=len(entries))
        kept = {entry.path for entry in entries[:num_newest]}
        kept |= {entry.path for entry in entries[: oldest_kept + 1] if entry.path == self.synced}
        kept |= {path for version, path in newest_of.items() if version in needed}
        for path in self._folder.iterdir():
            is_ours = path.suffix in (DRAFT_SUFFIX, JOURNAL_SUFFIX) or any(named([path]))
            if is_ours and path not in kept and path.with_suffix(".checkpoint") not in kept:
                path.unlink(missing_ok=True)
                self._marks.pop(path, None)

    def entries(self) -> list[CheckpointFile]:
        """Returns the checkpoints in the folder, newest first."""
        return newest_first(self._folder.iterdir())

    def has_older_shared(self) -> bool:
        """Whether the shared address has a checkpoint that is older than all in the folder. Raises StoreUnavailable."""
        oldest = min((entry.order for entry in self.entries()), default=(0, 0))
        return any(entry.order < oldest for entry in self._shared())

    def next_path(self, snapshot: Snapshot) -> Path:
        """Returns the file that the next `write` makes."""
        sequence = 1 + max((entry.sequence for entry in self.entries()), default=0)
        pending = snapshot.facts.pending
        return self._folder / f"{sequence:09d}-e{snapshot.facts.epoch}-v{pending.version if pending else 0}.checkpoint"

    def highest_epoch(self) -> int:
        """Returns the epoch of the last leader that has written here; 0 for none."""
        return max((entry.epoch for entry in self.entries()), default=0)

    def highest_version(self) -> int:
        """Returns the highest number under which something here was, or was about to be, published; 0 for none."""
        return max((max(self._versions_of(entry)) for entry in self.entries()), default=0)

    def _versions_of(self, entry: CheckpointFile) -> set[int]:
        """Returns the versions that the checkpoint and its journal lead to."""
        return {entry.version, *(version for version, _ in self._marks_of(entry))}

    def _marks_of(self, entry: CheckpointFile) -> Set[tuple[int, int]]:
        path = entry.path.with_suffix(JOURNAL_SUFFIX)
        if self.journal is not None and path == self.journal.path:
            return self.journal.marks
        if path not in self._marks:
            self._marks[path] = frozenset(each.mark for each in read_journal(path))
        return self._marks[path]

    def _read(self, entry: CheckpointFile) -> Snapshot:
        """Reads a file. Raises CheckpointRefused."""
        try:
            return decode(entry.path.read_bytes())
        except OSError as error:
            raise CheckpointRefused(f"cannot be read: {error}") from error

    def _check_epoch(self, epoch: int) -> None:
        highest = self.highest_epoch()
        if highest > epoch:
            raise StaleEpoch(f"{self._folder}: a leader of epoch {highest} has written; ours is {epoch}")


REMEDY: Final = (
    "Start the program that wrote it, or put a good file there; to begin from nothing and learn again what the topics "
    "still have, move all files of this folder elsewhere"
)


def _samples_until(mark: tuple[int, int], entries: Sequence[Entry]) -> list[Sample | ConceptChange]:
    """Returns the samples of the entries up to the one with `mark`."""
    samples: list[Sample | ConceptChange] = []
    for entry in entries:
        samples += entry.samples
        if entry.mark == mark:
            break
    return samples


def is_same_version(pending: WeightManifest | None, stored: WeightManifest | None) -> bool:
    """Whether the version that was about to be published is the one that the store has."""
    if pending is None or stored is None:
        return False
    return _identity(pending) == _identity(stored)


def _identity(manifest: WeightManifest) -> tuple[object, ...]:
    return manifest.version, manifest.epoch, manifest.tensors, manifest.trained_through
