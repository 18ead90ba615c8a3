"""The files of the learner: checkpoints by the number of their format, journals by their entries, adopted encoders.

A checkpoint of an older format is rewritten in place, under its name, whole or not at all. Its journal is not: it has
samples alone, which are read as they are.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from learner.encoder.base import ENCODER_SUFFIX as ENCODER
from learner.encoder.rounded import KEY_BYTES, read_tensors
from learner.errors import CheckpointRefused, CheckpointUnknown
from learner.state.checkpoints import JOURNAL_SUFFIX as JOURNAL
from learner.state.checkpoints import Checkpoints, Entry, whole_entries
from learner.state.snapshot import FORMAT, decode, encode, upgraded
from services.migration.format_finding import FormatFinding, Readability, read
from wire.files import atomic_write

OLDER = "The checkpoint before it is used, and what came since is learnt again from the topics"


def examined(folder: Path) -> Iterator[FormatFinding]:
    """Yields every file of the learner. The newest whole checkpoint is needed."""
    entries = Checkpoints(folder, num_newest=1).entries() if folder.exists() else []
    is_needed = True
    for entry in entries:
        finding = _of_checkpoint(entry.path, is_needed=is_needed)
        yield finding
        if finding.verdict is not Readability.UNREADABLE or finding.is_needed:
            is_needed = False
        if (journal := entry.path.with_suffix(JOURNAL)).exists():
            yield _of_journal(journal)
    for path in sorted(folder.glob(f"*{ENCODER}")):
        yield _of_encoder(path)


def _of_checkpoint(path: Path, *, is_needed: bool) -> FormatFinding:
    try:
        snapshot = decode(path.read_bytes())
    except CheckpointUnknown as error:
        fix = "Install the release that wrote it, or restore a backup"
        return FormatFinding(
            name=path.name, format="?", verdict=Readability.UNREADABLE, why=f"{error}. {fix}", is_needed=is_needed
        )
    except (CheckpointRefused, OSError) as error:
        return FormatFinding(name=path.name, format="?", verdict=Readability.UNREADABLE, why=f"{error}. {OLDER}")
    found = f"checkpoint {snapshot.facts.format}"
    if snapshot.facts.format == FORMAT:
        return read(path.name, found)
    return FormatFinding(
        name=path.name,
        format=found,
        verdict=Readability.REWRITTEN,
        why=f"as checkpoint {FORMAT}",
        is_needed=is_needed,
        rewrite=partial(_rewrite, path),
    )


def _rewrite(path: Path) -> None:
    """Writes a checkpoint again in the format of this release. Raises CheckpointRefused, OSError."""
    data = encode(upgraded(decode(path.read_bytes())))
    with atomic_write(path, mode=path.stat().st_mode & 0o777, is_synced=True) as file:
        file.write(data)


def _of_journal(path: Path) -> FormatFinding:
    try:
        entries = [msgspec.msgpack.decode(body, type=Entry) for body in whole_entries(path)]
    except msgspec.DecodeError as error:
        why = f"{error}. Versions since its checkpoint cannot be rolled back to"
        return FormatFinding(name=path.name, format="journal", verdict=Readability.UNREADABLE, why=why)
    return read(path.name, "journal", f"{len(entries)} entries")


def _of_encoder(path: Path) -> FormatFinding:
    key = path.read_bytes()[:KEY_BYTES]
    if read_tensors(path, key) is None:
        why = "its bytes are not what was written. Put a good copy there: a checkpoint may stand on it"
        return FormatFinding(name=path.name, format="adopted encoder", verdict=Readability.UNREADABLE, why=why)
    return read(path.name, "adopted encoder")
