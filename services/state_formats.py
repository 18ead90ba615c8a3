"""Implements `lifelong migrate`: finds the formats of a service's state, and rewrites old ones for this release.

    learner's files: checkpoints, journals, adopted encoders | store: manifests, plan, tallies, ...
    --examine_files, examine_store--> FormatFinding --rewrite--> the format of this release

A release reads the state that the release before it wrote, so a service is upgraded one release after another. Records
that the next release would not read are rewritten. Records that this release reads, and replaces with its next write,
are left alone.

- Checkpoint, journal: there is one format so far, the format of release 0.1.0.
- Manifest: never rewritten, because it is signed and content-addressed. Replicas read formats N and N-1.
- Tallies: dropped if they cannot be read, as the rollout would do at its next start. It then judges the versions from
  scratch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from learner.encoder.base import ENCODER_SUFFIX as ENCODER
from learner.encoder.rounded import KEY_BYTES, read_tensors
from learner.errors import CheckpointRefused, CheckpointUnknown
from learner.state.checkpoints import JOURNAL_SUFFIX as JOURNAL
from learner.state.checkpoints import Checkpoints, Entry, intact_entries
from learner.state.snapshot import decode
from rollout.judged_events import JudgedEvent
from rollout.tallies import TalliesState
from wire.errors import BadSignature, BlobCorrupt, UnknownFormat
from wire.store import Store

OLDER = "The checkpoint before it is used, and later labels are learnt again from the topics"

REFUSALS = (BadSignature, BlobCorrupt, UnknownFormat)

RELEASE = "Install the release that wrote it, or restore a backup"


class Readability(StrEnum):
    """Whether the installed release reads a part of the state as it is, rewrites it, or cannot read it."""

    READ = "read as it is"
    REWRITTEN = "rewritten"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatFinding:
    """A part of the state: its name, its format, and the verdict, with `why` as the reason or the fix.

    `rewrite` is set if the verdict is REWRITTEN. `is_needed` says that the service cannot run without this part.
    """

    name: str
    format: str
    verdict: Readability
    why: str = ""
    is_needed: bool = False
    rewrite: Callable[[], None] | None = None

    @property
    def is_fatal(self) -> bool:
        """Whether the service cannot run with the installed release."""
        return self.is_needed and self.verdict is Readability.UNREADABLE


def readable(name: str, format_: str, why: str = "") -> FormatFinding:
    """Returns the finding for a part of the state that is read as it is."""
    return FormatFinding(name=name, format=format_, verdict=Readability.READ, why=why)


def examine_files(folder: Path) -> Iterator[FormatFinding]:
    """Yields a finding for every file of the learner. Only the newest readable checkpoint is needed."""
    entries = Checkpoints(folder, num_newest=1).entries() if folder.exists() else []
    is_needed = True
    for entry in entries:
        finding = _examine_checkpoint(entry.path, is_needed=is_needed)
        yield finding
        if finding.verdict is not Readability.UNREADABLE or finding.is_needed:
            is_needed = False
        if (journal := entry.path.with_suffix(JOURNAL)).exists():
            yield _examine_journal(journal)
    for path in sorted(folder.glob(f"*{ENCODER}")):
        yield _examine_encoder(path)


def _examine_checkpoint(path: Path, *, is_needed: bool) -> FormatFinding:
    try:
        snapshot = decode(path.read_bytes())
    except CheckpointUnknown as error:
        return FormatFinding(
            name=path.name, format="?", verdict=Readability.UNREADABLE, why=f"{error}. {RELEASE}", is_needed=is_needed
        )
    except (CheckpointRefused, OSError) as error:
        return FormatFinding(name=path.name, format="?", verdict=Readability.UNREADABLE, why=f"{error}. {OLDER}")
    return readable(path.name, f"checkpoint {snapshot.facts.format}")


def _examine_journal(path: Path) -> FormatFinding:
    try:
        entries = [msgspec.msgpack.decode(body, type=Entry) for body in intact_entries(path)]
    except msgspec.DecodeError as error:
        why = f"{error}. No rollback to a version after its checkpoint is possible"
        return FormatFinding(name=path.name, format="journal", verdict=Readability.UNREADABLE, why=why)
    return readable(path.name, "journal", f"{len(entries)} entries")


def _examine_encoder(path: Path) -> FormatFinding:
    key = path.read_bytes()[:KEY_BYTES]
    if read_tensors(path, key) is None:
        why = "its content is damaged. Replace it by a good copy: a checkpoint may need it"
        return FormatFinding(name=path.name, format="adopted encoder", verdict=Readability.UNREADABLE, why=why)
    return readable(path.name, "adopted encoder")


def examine_store(store: Store) -> Iterator[FormatFinding]:
    """Yields a finding for each record that programs read from the store: plan, manifests, tallies and others."""
    plan = None
    try:
        plan = store.plans.read()
    except REFUSALS as error:
        yield _unreadable("plan", f"{error}. {RELEASE}", is_needed=True)
    else:
        if plan is not None:
            yield readable("plan", "rollout plan", f"revision {plan.revision}")
    needed = {store.versions.current(), *(plan.needed if plan else ())}
    for number in store.versions.stored():
        yield _examine_manifest(store, number, is_needed=number in needed)
    yield from _examine_tallies(store)
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
                yield readable(name, name, f"{len(found)} of them" if isinstance(found, list) else "")


def _examine_manifest(store: Store, number: int, *, is_needed: bool) -> FormatFinding:
    name = f"manifest of version {number}"
    try:
        manifest = store.versions.manifest(number)
    except REFUSALS as error:
        return _unreadable(name, f"{error}. {RELEASE}", is_needed=is_needed)
    return readable(name, f"{manifest.format} {manifest.format_version}")


def _examine_tallies(store: Store) -> Iterator[FormatFinding]:
    try:
        tallies = store.plans.read_evidence(TalliesState)
        judged = store.plans.read_judged(JudgedEvent)
    except (*REFUSALS, msgspec.DecodeError) as error:
        why = f"{error}. They are dropped, and the rollout judges the versions of the plan from scratch"
        yield FormatFinding(
            name="tallies", format="?", verdict=Readability.REWRITTEN, why=why, rewrite=store.plans.forget_evidence
        )
        return
    if tallies is not None:
        yield readable("tallies", "tallies", f"{len(judged)} judged events")


def _unreadable(name: str, why: str, *, is_needed: bool) -> FormatFinding:
    return FormatFinding(name=name, format="?", verdict=Readability.UNREADABLE, why=why, is_needed=is_needed)
