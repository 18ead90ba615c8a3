"""Writes a checked backup into an empty store and an empty folder of the learner. Every program must have ended.

    signatures verified -> nothing in use -> learner's files -> blobs -> keys, those that are followed last -> on disk

Rejected: a restore into a store that programs use (replicas refuse a plan that is older than theirs, and a learner
would publish on from a version that is gone).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from learner.state.checkpoint import named
from services.backups.format import BLOBS, KEPT, KEYS, LEARNER, BackupManifest, BackupRefused, Say
from services.backups.writing import sync
from services.settings import Settings
from wire.errors import BadSignature
from wire.store import Store, StoredKey, blobs_of


def restore_backup(
    settings: Settings, store: Store, folder: Path, manifest: BackupManifest, *, is_forced: bool, say: Say
) -> int:
    """Restores a backup that was checked; returns the number above which new versions are.

    With `is_forced` what was in the store is removed, and the folder of the learner moved aside. Raises BackupRefused
    before anything is changed.
    """
    stored = msgspec.msgpack.decode((folder / KEYS).read_bytes(), type=list[StoredKey])
    try:
        store.dump.verify(stored)
    except BadSignature as error:
        raise BackupRefused(
            f"{error}. The backup needs the keys {', '.join(manifest.signers)}: name the file of keys of the service "
            "that was backed up by LIFELONG_SIGNING_KEY_FILE"
        ) from error
    target = Path(settings.learner.state_dir)
    if programs := store.reports.programs():
        raise BackupRefused(f"{', '.join(programs)}: runs on this store. End it, and try again ten seconds later")
    if not is_forced and (problems := [*_in_use(store, target)]):
        raise BackupRefused(f"{'; '.join(problems)}. Restore elsewhere, or use --force, which takes its place")
    say("the learner's files")
    _replace_learner(folder / LEARNER, target, aside=target.with_name(f"{target.name}.before-restore"))
    store.dump.clear()
    blobs = blobs_of(stored)
    for number, digest in enumerate(blobs, 1):
        say(f"blob {number} of {len(blobs)}")
        store.blobs.put((folder / BLOBS / digest).read_bytes())
    say("plan and versions")
    return store.dump.write(stored, newest=_highest_version(target))


def _in_use(store: Store, target: Path) -> Iterator[str]:
    if not store.dump.is_empty():
        yield "the store already has keys of a service under this prefix"
    if any(path.suffix in KEPT for path in target.glob("*")):
        yield f"{target} already has what a learner knows"


def _replace_learner(source: Path, target: Path, *, aside: Path) -> None:
    """Puts the files of the backup in place of the folder, which is moved aside where anything is in it."""
    draft = target.with_name(f"{target.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft)
    draft.chmod(0o700)
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
