"""Implements `lifelong backup` and `restore`: copies the whole state of a running service into a folder, and back.

    learner's files, then the store's keys in one snapshot, then the blobs that the keys name --write--> FOLDER.partial
    FOLDER.partial: manifest, on disk --> FOLDER     FOLDER: every byte is checked --restore--> empty store and folder

    backup.json                 the manifest, with the size and the digest of each file; written last
    store/keys.msgpack          the keys of the store, without the blobs
    store/blobs/<digest>        the weights
    learner/                    checkpoints with their journals, and adopted encoders

The signing keys are not in a backup: `backup.json` has the ids of the keys that a restore needs. The topics are not in
it either; Kafka keeps them.

**Consistency.** A checkpoint holds the offsets up to which the learner has read the topics, so a restored learner reads
later labels from the topics, each label once. The checkpoint is copied before the store is read. The store is then
ahead of the checkpoint, as after any crash, and never behind it. Journals are copied again after the store was read, so
that they cover all versions of the store: a rollback to a version needs its state.

**Restore.** Every program must have ended before a restore. A request to forget somebody is permanent, so the requests
that are newer than the backup are kept: the requests in the store and in the learner's checkpoints. The plan of the
backup gets the time of the restore, because replicas refuse a plan that is older than their own.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from learner.errors import StateRefused
from learner.state.checkpoints import Checkpoints, named
from rollout.controller import LEASE
from services.settings import Settings
from wire.errors import BadSignature, BlobCorrupt, CannotSign, NotFound
from wire.files import sync_path
from wire.keyring import Kind, find_signer
from wire.records import Erase
from wire.store import Store
from wire.store.dump import StoredKey, list_blobs, list_entries, manifests, with_plan_time

MANIFEST: Final = "backup.json"
KEYS: Final = "store/keys.msgpack"
BLOBS: Final = "store/blobs"
LEARNER: Final = "learner"

SEALED_AS: Final = "backup"
"""The name under which the manifest is sealed. No key of the store has this name."""

KEPT: Final = (".checkpoint", ".journal", ".encoder")
"""Suffixes of the files that hold the learner's state. The learner makes all other files of its folder again."""

FORMAT: Final = "lifelong-backup"
FORMAT_VERSIONS: Final = (2,)
"""The versions of the format that this program reads; it writes the last one."""

CHUNK_BYTES: Final = 4 << 20

Say: TypeAlias = Callable[[str], None]

TRIES: Final = 5
"""How often the store is read if versions are removed while their blobs are fetched."""


class BackupRefused(RuntimeError):
    """The backup or the restore is refused. The message says what is wrong, and the fix."""


class BackupFile(msgspec.Struct, frozen=True):
    """A file of a backup: its path relative to the backup's folder, its size, and its SHA-256 as hexadecimal digits."""

    path: str
    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a backup.

    - `prefix`, `current` and `versions`: the prefix, the current version and all versions of the store.
    - `signers`: the ids of the keys that verify the records of the store; `shared-secret` for a shared secret.
    - `seal`: an authentication code of all other fields, made with the keys of the service.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSIONS[-1]
    release: str
    created_ms: int
    prefix: str
    current: int
    versions: tuple[int, ...]
    signers: tuple[str, ...]
    files: tuple[BackupFile, ...]
    seal: str = ""

    @property
    def sealed(self) -> bytes:
        """The bytes that the seal authenticates."""
        return msgspec.json.encode(msgspec.structs.replace(self, seal=""), order="deterministic")

    @property
    def learner_files(self) -> list[str]:
        """The names of the learner's files in the backup."""
        paths = (Path(file.path) for file in self.files)
        return [path.name for path in paths if path.parent == Path(LEARNER) and path.suffix in KEPT]

    @property
    def num_bytes(self) -> int:
        """The total size of all files."""
        return sum(file.bytes for file in self.files)


def read_manifest(folder: Path) -> BackupManifest:
    """Returns the manifest of a backup. Raises BackupRefused if there is none, or if its format is unknown."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        head = msgspec.json.decode(content, type=dict[str, object])
        if head.get("format") == FORMAT and head.get("format_version") in FORMAT_VERSIONS:
            return msgspec.json.decode(content, type=BackupManifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupRefused(f"{path}: is not the manifest of a backup ({error})") from error
    raise BackupRefused(
        f"{path}: is {head.get('format')!r} {head.get('format_version')}; this program reads {FORMAT} "
        f"{', '.join(map(str, FORMAT_VERSIONS))}. Use the release that wrote it"
    )


def check_backup(folder: Path, *, say: Say) -> BackupManifest:
    """Reads every byte of a backup, and returns its manifest.

    Raises BackupRefused, which names what is missing or changed.
    """
    manifest = read_manifest(folder)
    done = 0
    for file in manifest.files:
        say(f"checking {done >> 20} of {manifest.num_bytes >> 20} MiB")
        path = folder / file.path
        if ".." in Path(file.path).parts or not path.is_file() or file_digest(path) != file.sha256:
            raise BackupRefused(f"{path}: is missing, or was changed since the backup. Use another copy of the backup")
        done += file.bytes
    return manifest


def list_files(folder: Path) -> Iterator[BackupFile]:
    """Yields every file below a folder with its size and digest, in the order of the paths."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield BackupFile(path.relative_to(folder).as_posix(), path.stat().st_size, file_digest(path))


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_backup(settings: Settings, store: Store, folder: Path, *, now_ms: int, say: Say) -> BackupManifest:
    """Writes a backup to `folder`. If it raises (BackupRefused, WireError, OSError), there is no folder."""
    if folder.exists():
        raise BackupRefused(f"{folder}: exists already. Choose another folder, or remove it")
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    try:
        manifest = _write_draft(settings, store, draft, now_ms=now_ms, say=say)
        sync(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _write_draft(settings: Settings, store: Store, draft: Path, *, now_ms: int, say: Say) -> BackupManifest:
    source = Path(settings.learner.state_dir)
    say("the learner's files")
    names = copy_learner(source, draft / LEARNER)
    stored = _copy_store(settings, store, draft, say=say)
    numbers = [number for number, _ in manifests(stored)]
    if numbers and not any(name.endswith(".checkpoint") for name in names):
        raise BackupRefused(
            f"{source}: holds no checkpoint. Run this where the learner runs, or name its folder: "
            "--set learner.state_dir=FOLDER"
        )
    # The store may have newer versions than the journals that were copied first.
    for name in names:
        if name.endswith(".journal"):
            copy(source / name, draft / LEARNER / name)
    current = next((int(key.values[0]) for key in stored if key.name == "current"), 0)
    manifest = BackupManifest(
        release=version("lifelong"),
        created_ms=now_ms,
        prefix=settings.store.prefix,
        current=current,
        versions=tuple(sorted(numbers)),
        signers=tuple(sorted(set(_signers(stored)))),
        files=tuple(list_files(draft)),
    )
    manifest = msgspec.structs.replace(manifest, seal=store.seals.seal(manifest.sealed, SEALED_AS).decode())
    (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def copy_learner(source: Path, target: Path) -> list[str]:
    """Copies the learner's state; returns the names of the copied files.

    A file that the learner removes meanwhile is skipped, since it has written a newer one.
    """
    target.mkdir()
    names = [path.name for path in sorted(source.glob("*")) if path.suffix in KEPT]
    return [name for name in names if copy(source / name, target / name)]


def copy(source: Path, target: Path) -> bool:
    """Copies a file; returns whether the file exists. A file that is removed meanwhile is still copied whole."""
    try:
        with source.open("rb") as file, target.open("wb") as written:
            shutil.copyfileobj(file, written, CHUNK_BYTES)
    except FileNotFoundError:
        return False
    return True


def sync(folder: Path) -> None:
    """Waits until the folder and every file below it are on the disk."""
    for path in [folder, *folder.rglob("*")]:
        sync_path(path)


def _copy_store(settings: Settings, store: Store, draft: Path, *, say: Say) -> list[StoredKey]:
    """Writes the keys and the blobs that they name. Reads the keys again if versions are removed meanwhile."""
    folder = draft / BLOBS
    folder.mkdir(parents=True)
    for attempt in range(TRIES):
        stored = store.dump.read([settings.learner.lease_name, LEASE])
        blobs = list_blobs(stored)
        try:
            for number, (digest, num_bytes) in enumerate(blobs.items(), 1):
                say(f"blob {number} of {len(blobs)}")
                if not (folder / digest).exists():
                    (folder / digest).write_bytes(store.blobs.get(digest, num_bytes))
            break
        except (NotFound, BlobCorrupt):
            if attempt == TRIES - 1:
                raise
    # Blobs of an earlier attempt may belong to versions that were removed.
    for path in folder.iterdir():
        if path.name not in blobs:
            path.unlink()
    (draft / KEYS).write_bytes(msgspec.msgpack.encode(stored))
    return stored


def _signers(stored: Sequence[StoredKey]) -> Iterator[str]:
    """Yields the id of the key of each signature. A signature by a shared secret names no key."""
    for key in stored:
        if key.type == "hash" and b"body" in key.fields:
            yield find_signer(key.fields.get(b"signature", b"")) or Kind.SHARED


class Restored(NamedTuple):
    """The result of a restore."""

    first: int
    """New versions have higher numbers than this."""
    newer_erasures: int
    """The number of kept requests to forget that are newer than the backup."""


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

    With `is_forced`, a store and a learner's folder that are in use are replaced. The requests to forget in the store
    are kept, and the folder is moved aside. Raises BackupRefused before anything is changed.
    """
    stored = _read_verified_keys(store, folder, manifest)
    target = Path(settings.learner.state_dir)
    if programs := store.reports.programs():
        raise BackupRefused(f"{', '.join(programs)}: runs on this store. End it, and try again ten seconds later")
    if not is_forced and (problems := [*_occupied(store, target)]):
        raise BackupRefused(f"{'; '.join(problems)}. Restore elsewhere, or replace the old state with --force")
    newer = {*Erase.digests(store.commands.read()), *_erased_in_checkpoint(target)}
    newer -= {*Erase.digests(entry.command for entry in list_entries(stored))}
    # The requests are appended before anything is removed. The log of the store is kept, so they survive a crash.
    for digest in sorted(newer):
        store.commands.append(Erase(digest=digest), source="restore", time_ms=now_ms)
    say("the learner's files")
    aside = target.with_name(f"{target.name}.before-restore")
    _replace_learner(folder / LEARNER, manifest.learner_files, target, aside=aside)
    store.dump.clear(kept=("commands",))
    blobs = list_blobs(stored)
    for number, digest in enumerate(blobs, 1):
        say(f"blob {number} of {len(blobs)}")
        store.blobs.put((folder / BLOBS / digest).read_bytes())
    say("plan and versions")
    first = store.dump.write(with_plan_time(stored, now_ms), newest=_highest_version(target))
    return Restored(first, len(newer))


def _read_verified_keys(store: Store, folder: Path, manifest: BackupManifest) -> list[StoredKey]:
    """Returns the store's keys in the backup. Raises BackupRefused if our keys do not verify the seal or a record."""
    stored = msgspec.msgpack.decode((folder / KEYS).read_bytes(), type=list[StoredKey])
    try:
        store.seals.check(manifest.sealed, manifest.seal.encode(), SEALED_AS, prefix=manifest.prefix)
        store.dump.verify(stored, manifest.prefix)
    except (BadSignature, CannotSign) as error:
        raise BackupRefused(
            f"{error}. The backup needs the keys {', '.join(manifest.signers)}: set LIFELONG_SIGNING_KEY_FILE to the "
            "key file of the service that was backed up"
        ) from error
    return stored


def _occupied(store: Store, target: Path) -> Iterator[str]:
    """Yields a sentence if the store holds the state of a service already, and one if the folder does."""
    if not store.dump.is_empty():
        yield "the store already has keys of a service under this prefix"
    if any(path.suffix in KEPT for path in target.glob("*")):
        yield f"{target} already has the state of a learner"


def _replace_learner(source: Path, names: Sequence[str], target: Path, *, aside: Path) -> None:
    """Replaces the folder `target` by files of the backup. If it has any files, it is moved to `aside`."""
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
    """Returns the highest published version in the names of the checkpoints; 0 if there is none."""
    return max((file.version for file in named(folder.iterdir())), default=0)


def _erased_in_checkpoint(folder: Path) -> list[str]:
    """Returns the digests of the subjects that were erased before the newest whole checkpoint in `folder`."""
    if not folder.is_dir():
        return []
    try:
        snapshot = Checkpoints(folder, num_newest=1).newest()
    except StateRefused:
        return []
    return snapshot.facts.commands.digests if snapshot else []
