"""Checkpoints and journals. A checkpoint file has the learner's whole state; its journal has the samples since then.

    Snapshot -> temporary file -> (fsync ->) rename (-> fsync of the folder)        newest() -> the newest intact file
    journal: samples, version 8 | samples, version 9 | ...     state of version 9: the checkpoint and these two entries

Weights, sums, samples, windows, counters and offsets are in one file, so the knowledge and the offsets always agree. A
restart continues at these offsets, and each label has its effect exactly once.

**Names.** The name of a file contains its sequence number, the epoch of the leader that wrote it, and the version with
which its state was about to be published (0: none). The epoch is a fencing token: the file with the higher epoch is the
newer one, and a leader writes nothing if the folder has a higher epoch than its own. A leader that slept past the end
of its lease may already have passed this check. Its file is then older than all files of its successor, which writes a
checkpoint before it does anything else. The name of a file does not prove that its version was published; only the
store's manifest does. The newest few files are kept, and the files of versions to which the rollout may return.

**Durability.** After the rename a file survives a kill. It survives a power cut only after fsync, which the writer may
skip. So the newest synced file is kept, too. A learner that continues from it reads the labels since then again. If
versions come fast, most files are removed before they ever reach the disk.

**Journals.** The samples between two checkpoints are in the journal of the first one, so that the learner can go back
to versions without a checkpoint. A journal is next to its checkpoint, and is removed with it. An entry is appended
before its version is sent. So every version in the store is in a journal, unless it has a checkpoint of its own. A kill
may tear the last entry, whose version was not sent then. A journal is not synced. After a power cut its end may be
missing, torn, zeros, or the bytes of another file. Reading stops at the first invalid entry, and the learner cannot go
back to later versions.

Rejected:

- One file for each part: a kill between two files would mix two states.
- A single journal since the beginning: replaying it would need all earlier encoders.
- Reading the labels from the topics again instead of a journal: this would need the join windows of that time, and the
  topics may have dropped records.
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
"""The name of a checkpoint file. Older releases wrote names without an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointFile:
    """A checkpoint file, with the parts of its name."""

    path: Path
    sequence: int
    epoch: int
    version: int

    @property
    def order(self) -> tuple[int, int]:
        """The sort key: a newer checkpoint has a greater value."""
        return self.epoch, self.sequence


def named(paths: Iterable[Path]) -> Iterator[CheckpointFile]:
    """Parses the names of checkpoint files; yields no entry for other files."""
    for path in paths:
        if name := _NAME.fullmatch(path.name):
            epoch = int(name["epoch"] or 0)
            yield CheckpointFile(path=path, sequence=int(name["sequence"]), epoch=epoch, version=int(name["version"]))


def newest_first(paths: Iterable[Path]) -> list[CheckpointFile]:
    """Returns the checkpoint files among `paths`, newest first."""
    return sorted(named(paths), key=lambda entry: entry.order, reverse=True)


JOURNAL_SUFFIX: Final = ".journal"

MAX_SAMPLES: Final = 20_000
"""A journal with this many samples is full: then another checkpoint is due at once."""

_HEADER: Final = Struct("<II")
"""The header of a journal entry: its length and CRC-32."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A journal entry: the samples and concept changes since the previous entry, in the order of learning.

    `version` and `epoch` are of the first version that contains them; 0 if no version contains them yet.
    """

    version: int
    epoch: int
    samples: Sequence[Sample | ConceptChange]

    @property
    def mark(self) -> tuple[int, int]:
        return self.version, self.epoch


class Journal:
    """The journal that is being written. `marks` has the pair of version and epoch of each entry."""

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
        """Appends an entry, which then survives a kill.

        Raises CheckpointFailed. Then no further entry may be appended, since the end of the file may be torn.
        """
        data = msgspec.msgpack.encode(entry)
        data = _HEADER.pack(len(data), zlib.crc32(data)) + data
        try:
            num_written = os.write(self._file, data)
        except OSError as error:
            raise CheckpointFailed(f"{self.path}: {error}") from error
        if num_written != len(data):
            raise CheckpointFailed(f"{self.path}: only {num_written} of {len(data)} bytes were written")
        self.marks.add(entry.mark)
        self.num_samples += len(entry.samples)

    def close(self) -> None:
        os.close(self._file)


def read_journal(path: Path) -> list[Entry]:
    """Returns the intact entries at the start of a journal; [] if there is no journal."""
    entries: list[Entry] = []
    for body in intact_entries(path):
        try:
            entries.append(msgspec.msgpack.decode(body, type=Entry))
        except msgspec.DecodeError:
            # The bytes belong to another file, or another release wrote them.
            break
    return entries


def intact_entries(path: Path) -> Iterator[bytes]:
    """Yields the encoded entries of a journal up to the first torn one; nothing if the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    start = 0
    while start + _HEADER.size <= len(data):
        num_bytes, checksum = _HEADER.unpack_from(data, start)
        body = data[start + _HEADER.size : start + _HEADER.size + num_bytes]
        start += _HEADER.size + num_bytes
        # After a power cut a file may end in zeros. These look like an empty entry with the right checksum.
        if not num_bytes or len(body) != num_bytes or zlib.crc32(body) != checksum:
            return
        yield body


class VersionState(NamedTuple):
    """The learner's state of a published version: a checkpoint, and the samples that were learnt after it."""

    snapshot: Snapshot
    samples: Sequence[Sample | ConceptChange] = ()


class Checkpoints:
    """The checkpoints and journals in a folder, into which one learner at a time writes.

    - `on_written`: is called with each new file; may raise StaleEpoch and CheckpointFailed.
    - `shared`: returns the checkpoints at the shared address; may raise StoreUnavailable.
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
        """The newest synced file that this process has written."""
        self.refused: list[str] = []
        """The files that were refused, each with the reason."""
        self.journal: Journal | None = None
        """The journal of this process's newest checkpoint, if one was begun."""
        # The marks of finished journals, which are cached so that each journal is read once.
        self._marks: dict[Path, frozenset[tuple[int, int]]] = {}

    def write(self, snapshot: Snapshot, *, is_synced: bool = True) -> Path:
        """Writes a snapshot; returns its file. The file then survives a kill, and with `is_synced` also a power cut.

        Raises StaleEpoch if a later leader has written here, and CheckpointFailed.
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
        """Returns the newest intact checkpoint; None if the folder has no checkpoint.

        Torn files are skipped and listed in `refused`. Raises StateRefused if

        - no file is intact, or
        - this release cannot read the newest intact file. If an older file were used, the labels since then would be
          lost.
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
            raise StateRefused(f"{self._folder}: no checkpoint is intact ({'; '.join(self.refused)}). {REMEDY}")
        return None

    def begin_journal(self, path: Path) -> Journal:
        """Begins the journal of the checkpoint at `path`, and closes the previous journal. Raises CheckpointFailed."""
        if self.journal is not None:
            self._marks[self.journal.path] = frozenset(self.journal.marks)
            self.journal.close()
            self.journal = None
        self.journal = Journal(path.with_suffix(JOURNAL_SUFFIX))
        return self.journal

    def find_version(self, manifest: WeightManifest) -> VersionState | None:
        """Returns the state of the version that the store has as `manifest`; None if no file has it any more."""
        mark = (manifest.version, manifest.epoch)
        for entry in self.entries():
            is_marked = mark in self._list_marks(entry)
            if entry.version != manifest.version and not is_marked:
                continue
            try:
                snapshot = self._read(entry)
            except CheckpointRefused as error:
                self.refused.append(f"{entry.path.name}: {error}")
                continue
            if is_marked:
                journal = read_journal(entry.path.with_suffix(JOURNAL_SUFFIX))
                return VersionState(snapshot, _samples_until(mark, journal))
            # Another leader may have written a checkpoint for this number whose version was never published.
            if is_same_version(snapshot.facts.pending, manifest):
                return VersionState(snapshot)
        return None

    def prune(self, versions: Iterable[int], *, since: int = 0) -> None:
        """Removes all checkpoints except

        - the newest few,
        - the newest one that was synced, and
        - for each of `versions`, the newest one from which its state can be restored, with or without the journal.

        Also removes the journals of removed checkpoints, and drafts that a kill left behind. A checkpoint that is older
        than the checkpoint of version `since` is only kept if one of `versions` needs it.
        """
        entries = self.entries()
        needed = set(versions) - {0}
        since_indices = [index for index, entry in enumerate(entries) if since and entry.version == since]
        oldest_kept = max(since_indices, default=len(entries))
        num_newest = min(self._num_newest, 1 + oldest_kept)
        newest_of: dict[int, Path] = {}
        for entry in reversed(entries):
            newest_of |= dict.fromkeys(self._list_versions(entry), entry.path)
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
        """Returns whether the shared address has a checkpoint older than all files here. Raises StoreUnavailable."""
        oldest = min((entry.order for entry in self.entries()), default=(0, 0))
        return any(entry.order < oldest for entry in self._shared())

    def next_path(self, snapshot: Snapshot) -> Path:
        """Returns the path of the file that the next `write` makes."""
        sequence = 1 + max((entry.sequence for entry in self.entries()), default=0)
        pending = snapshot.facts.pending
        return self._folder / f"{sequence:09d}-e{snapshot.facts.epoch}-v{pending.version if pending else 0}.checkpoint"

    def highest_epoch(self) -> int:
        """Returns the epoch of the last leader that has written into this folder; 0 if none has."""
        return max((entry.epoch for entry in self.entries()), default=0)

    def highest_version(self) -> int:
        """Returns the highest version number of the checkpoints and journals here; 0 if there is none."""
        return max((max(self._list_versions(entry)) for entry in self.entries()), default=0)

    def _list_versions(self, entry: CheckpointFile) -> set[int]:
        """Returns the versions whose states can be restored from a checkpoint and its journal."""
        return {entry.version, *(version for version, _ in self._list_marks(entry))}

    def _list_marks(self, entry: CheckpointFile) -> Set[tuple[int, int]]:
        """Returns the pairs of version and epoch in the journal of a checkpoint."""
        path = entry.path.with_suffix(JOURNAL_SUFFIX)
        if self.journal is not None and path == self.journal.path:
            return self.journal.marks
        if path not in self._marks:
            self._marks[path] = frozenset(journal_entry.mark for journal_entry in read_journal(path))
        return self._marks[path]

    def _read(self, entry: CheckpointFile) -> Snapshot:
        """Reads a file. Raises CheckpointRefused."""
        try:
            return decode(entry.path.read_bytes())
        except OSError as error:
            raise CheckpointRefused(f"cannot be read: {error}") from error

    def _check_epoch(self, epoch: int) -> None:
        """Raises StaleEpoch if a later leader has written here."""
        highest = self.highest_epoch()
        if highest > epoch:
            raise StaleEpoch(f"{self._folder}: a leader of epoch {highest} has written; ours is {epoch}")


REMEDY: Final = (
    "Start the release that wrote it, or restore an intact file there. To start without a checkpoint and learn again "
    "from the records that the topics still have, move all files of this folder elsewhere"
)


def _samples_until(mark: tuple[int, int], entries: Sequence[Entry]) -> list[Sample | ConceptChange]:
    """Returns the samples of all entries up to the entry with `mark`."""
    samples: list[Sample | ConceptChange] = []
    for entry in entries:
        samples += entry.samples
        if entry.mark == mark:
            break
    return samples


def is_same_version(pending: WeightManifest | None, stored: WeightManifest | None) -> bool:
    """Returns whether `stored`, the store's version, is the version that was about to be published by this learner."""
    if pending is None or stored is None:
        return False
    return _identity(pending) == _identity(stored)


def _identity(manifest: WeightManifest) -> tuple[object, ...]:
    return manifest.version, manifest.epoch, manifest.tensors, manifest.trained_through
