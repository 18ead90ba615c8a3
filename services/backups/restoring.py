"""Writes a checked backup into an empty store and an empty folder of the learner. Every program must have ended.

    seal, signatures -> nothing in use -> learner's files -> blobs -> keys, those that are followed last -> on disk

A request to forget somebody is permanent, so those that are newer than the backup are kept: the ones of the store, and
the ones of the learner's checkpoints. The plan of the backup is in force from now on, so that replicas follow it.

Rejected: a restore into a store that programs use (replicas refuse a plan that is older than theirs, and a learner
would publish on from a version that is gone).
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from learner.errors import StateRefused
from learner.state.checkpoints import Checkpoints, named
from services.backups.format import BLOBS, KEPT, KEYS, LEARNER, SEALED_AS, BackupManifest, BackupRefused, Say
from services.backups.writing import sync
from services.settings import Settings
from wire.errors import BadSignature, CannotSign
from wire.store import Store, StoredKey, blobs_of, erasures_in, in_force_since


class Restored(NamedTuple):
    """The number above which new versions are, and how many requests to forget are newer than the backup."""

    first: int
    newer_erasures: int


def restore_backup(
    settings: Settings,
    store: Store,
    folder: Path,
    manifest: BackupManifest,
    *,
    is_forced: bool,
    now_ms: int,
    say: Say,
) -> Restored:
    """Restores a backup that was checked.

    With `is_forced` what was in the store is removed, but for requests to forget, and the folder of the learner moved
    aside. Raises BackupRefused before anything is changed.
    """
    stored = _verified(store, folder, manifest)
    target = Path(settings.learner.state_dir)
    if programs := store.reports.programs():
        raise BackupRefused(f"{', '.join(programs)}: runs on this store. End it, and try again ten seconds later")
    if not is_forced and (problems := [*_in_use(store, target)]):
        raise BackupRefused(f"{'; '.join(problems)}. Restore elsewhere, or use --force, which takes its place")
    newer = {*filter(None, store.erasures.requested(0)), *_erased(target)} - erasures_in(stored)
    for digest in sorted(newer):
        # Before anything is removed: the list of the store is kept, also if this is interrupted.
        store.erasures.request(digest)
    say("the learner's files")
    aside = target.with_name(f"{target.name}.before-restore")
    _replace_learner(folder / LEARNER, manifest.learner_files, target, aside=aside)
    store.dump.clear(kept=("erasures",))
    blobs = blobs_of(stored)
    for number, digest in enumerate(blobs, 1):
        say(f"blob {number} of {len(blobs)}")
        store.blobs.put((folder / BLOBS / digest).read_bytes())
    say("plan and versions")
    first = store.dump.write(in_force_since(stored, now_ms), newest=_highest_version(target))
    return Restored(first, len(newer))


def _verified(store: Store, folder: Path, manifest: BackupManifest) -> list[StoredKey]:
    """Returns the keys of the backup. Raises BackupRefused unless our keys have sealed it and signed each record."""
    stored = msgspec.msgpack.decode((folder / KEYS).read_bytes(), type=list[StoredKey])
    try:
        store.seals.check(manifest.sealed, manifest.seal.encode(), SEALED_AS, prefix=manifest.prefix)
        store.dump.verify(stored, manifest.prefix)
    except (BadSignature, CannotSign) as error:
        raise BackupRefused(
            f"{error}. The backup needs the keys {', '.join(manifest.signers)}: name the file of keys of the service "
            "that was backed up by LIFELONG_SIGNING_KEY_FILE"
        ) from error
    return stored


def _in_use(store: Store, target: Path) -> Iterator[str]:
    if not store.dump.is_empty():
        yield "the store already has keys of a service under this prefix"
    if any(path.suffix in KEPT for path in target.glob("*")):
        yield f"{target} already has what a learner knows"


def _replace_learner(source: Path, names: Sequence[str], target: Path, *, aside: Path) -> None:
    """Puts these files of the backup in place of the folder, which is moved aside where anything is in it."""
    draft = target.with_name(f"{target.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    for name in names:
        shutil.copyfile(source / name, draft / name)
    sync(draft)
    if any(target.glob("*")):
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    if target.exists():
        target.rmdir()
    draft.rename(target)


def _highest_version(folder: Path) -> int:
    """Returns the highest version that the name of a checkpoint says it was published as; 0 for none."""
    return max((file.version for file in named(folder.iterdir())), default=0)


def _erased(folder: Path) -> list[str]:
    """Returns the digests of the subjects that the newest whole checkpoint in a folder knows to be erased."""
    if not folder.is_dir():
        return []
    try:
        snapshot = Checkpoints(folder, num_newest=1).newest()
    except StateRefused:
        return []
    return [erasure.digest for erasure in snapshot.facts.erased.erasures] if snapshot else []
