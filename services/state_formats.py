"""What `lifelong migrate` does: which formats of a state the installed release reads, and which it rewrites.

    learner's files: checkpoints, journals, adopted encoders | store: manifests, plan, tallies, ...
    --examined--> FormatFinding --rewrite--> the format of this release

A release reads what the one before it wrote, so a service is upgraded one release after another. What would be too old
for the next one is rewritten; what is read as it is, and follows this release with the next write, is left alone.

A checkpoint of an older format is rewritten in place, under its name, whole or not at all. Its journal is not: it has
samples alone, which are read as they are. Manifests are signed and content-addressed, so they are never rewritten:
replicas read formats N and N-1. Tallies that cannot be read are dropped, as the rollout would at its next start; it
judges the versions anew then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec

from learner.encoder.base import ENCODER_SUFFIX as ENCODER
from learner.encoder.rounded import KEY_BYTES, read_tensors
from learner.errors import CheckpointRefused, CheckpointUnknown
from learner.state.checkpoints import JOURNAL_SUFFIX as JOURNAL
from learner.state.checkpoints import Checkpoints, Entry, whole_entries
from learner.state.snapshot import FORMAT, decode, encode, upgraded
from rollout.judged_events import JudgedEvent
from rollout.tallies import TalliesState
from wire.errors import BadSignature, BlobCorrupt, UnknownFormat
from wire.files import atomic_write
from wire.store import Store

OLDER = "The checkpoint before it is used, and what came since is learnt again from the topics"

REFUSALS = (BadSignature, BlobCorrupt, UnknownFormat)

RELEASE = "Install the release that wrote it, or restore a backup"


class Readability(StrEnum):
    """What the installed release does with a thing of a state."""

    READ = "read as it is"
    REWRITTEN = "rewritten"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatFinding:
    """A thing of a state by its name, its format, and the verdict with its reason or its fix.

    `rewrite` is there where the verdict is REWRITTEN. `is_needed` says that the service cannot go on without it.
    """

    name: str
    format: str
    verdict: Readability
    why: str = ""
    is_needed: bool = False
    rewrite: Callable[[], None] | None = None

    @property
    def is_fatal(self) -> bool:
        """Whether the service cannot go on with the installed release."""
        return self.is_needed and self.verdict is Readability.UNREADABLE


def read(name: str, format_: str, why: str = "") -> FormatFinding:
    """Returns a thing that is read as it is."""
    return FormatFinding(name=name, format=format_, verdict=Readability.READ, why=why)


def examined_files(folder: Path) -> Iterator[FormatFinding]:
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


def examined_store(store: Store) -> Iterator[FormatFinding]:
    """Yields the plan, every manifest, the tallies, and what else programs of this release read from the store."""
    plan = None
    try:
        plan = store.plans.read()
    except REFUSALS as error:
        yield _unreadable("plan", f"{error}. {RELEASE}", is_needed=True)
    else:
        if plan is not None:
            yield read("plan", "rollout plan", f"revision {plan.revision}")
    needed = {store.versions.current(), *(plan.needed if plan else ())}
    for number in store.versions.stored():
        yield _of_manifest(store, number, is_needed=number in needed)
    yield from _of_tallies(store)
    reads: dict[str, Callable[[], object]] = {
        "offer": store.commands.open_offer,
        "decisions": lambda: store.plans.decisions.since(0, 1_000_000),
        "history": lambda: store.versions.history(1_000_000),
        "labels": lambda: [*store.labels.requested()],
        "commands": store.commands.entries,
    }
    for name, reader in reads.items():
        try:
            found = reader()
        except REFUSALS as error:
            yield _unreadable(name, f"{error}. {RELEASE}", is_needed=name in ("commands", "labels"))
        else:
            if found:
                yield read(name, name, f"{len(found)} of them" if isinstance(found, list) else "")


def _of_manifest(store: Store, number: int, *, is_needed: bool) -> FormatFinding:
    name = f"manifest of version {number}"
    try:
        manifest = store.versions.manifest(number)
    except REFUSALS as error:
        return _unreadable(name, f"{error}. {RELEASE}", is_needed=is_needed)
    return read(name, f"{manifest.format} {manifest.format_version}")


def _of_tallies(store: Store) -> Iterator[FormatFinding]:
    try:
        tallies = store.plans.read_evidence(TalliesState)
        judged = store.plans.read_judged(JudgedEvent)
    except (*REFUSALS, msgspec.DecodeError) as error:
        why = f"{error}. They are dropped, and the rollout judges the versions of the plan anew"
        yield FormatFinding(
            name="tallies", format="?", verdict=Readability.REWRITTEN, why=why, rewrite=store.plans.forget_evidence
        )
        return
    if tallies is not None:
        yield read("tallies", "tallies", f"{len(judged)} judged events")


def _unreadable(name: str, why: str, *, is_needed: bool) -> FormatFinding:
    return FormatFinding(name=name, format="?", verdict=Readability.UNREADABLE, why=why, is_needed=is_needed)
