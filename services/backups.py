"""What `lifelong backup` and `restore` do: everything that a service knows in one folder, made while it runs, and back.

    the learner's files, then the store's keys in one moment, then the blobs that these name --write--> FOLDER.partial
    FOLDER.partial: manifest, on disk --> FOLDER     FOLDER: every byte is checked --restore--> empty store and folder

    backup.json                 what is in it, with the size and the digest of each file; written last
    store/keys.msgpack          the keys of the store, but the blobs
    store/blobs/<digest>        the weights
    learner/                    checkpoints with their journals, and adopted encoders

Keys that sign are not in it: `backup.json` has the ids of those that are needed. Topics are Kafka's own to keep.

A checkpoint holds the offsets up to which it was learnt, so a restored learner reads the labels since then from the
topics, each once. The checkpoint is copied before the store is read: the store is then ahead of it, as it is after any
crash, and never behind. What a journal got meanwhile is copied after the store was read, for versions that may be
rolled back to.

Every program must have ended before a restore. A request to forget somebody is permanent, so requests that are newer
than the backup are kept: those of the store, and those of the learner's checkpoints. The plan of the backup is in force
from then on, so that replicas follow it.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from wire.keyring import Kind, signer_of
from wire.records import Command, Erase
from wire.store import Store
from wire.store.dump import StoredKey, blobs_of, entries_of, in_force_since, manifests

MANIFEST: Final = "backup.json"
KEYS: Final = "store/keys.msgpack"
BLOBS: Final = "store/blobs"
LEARNER: Final = "learner"

SEALED_AS: Final = "backup"
"""The name under which the manifest is sealed: no key of the store has it."""

KEPT: Final = (".checkpoint", ".journal", ".encoder")
"""Files of the learner's folder that are part of what it knows; the others are made again."""

FORMAT: Final = "lifelong-backup"
FORMAT_VERSIONS: Final = (2,)
"""The versions of the format that this program reads; it writes the last."""

CHUNK_BYTES: Final = 4 << 20

Say: TypeAlias = Callable[[str], None]

TRIES: Final = 5
"""How often the store is read where versions were removed while their blobs were fetched."""


class BackupRefused(RuntimeError):
    """What is wrong, and the fix."""


class BackupFile(msgspec.Struct, frozen=True):
    """A file of the backup, its path from the folder."""

    path: str
    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `current` and `versions` are those of the store; `signers` are the ids of the keys that its
    records need, or `shared-secret`. `seal` is a code over everything else, by the keys of the service."""

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
        """The bytes that the seal is over."""
        return msgspec.json.encode(msgspec.structs.replace(self, seal=""), order="deterministic")

    @property
    def learner_files(self) -> list[str]:
        """The names of the files of the learner."""
        paths = (Path(file.path) for file in self.files)
        return [path.name for path in paths if path.parent == Path(LEARNER) and path.suffix in KEPT]

    @property
    def num_bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def read_manifest(folder: Path) -> BackupManifest:
    """Returns the manifest. Raises BackupRefused where it is none that this program reads."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        head = msgspec.json.decode(content, type=dict[str, object])
        if head.get("format") == FORMAT and head.get("format_version") in FORMAT_VERSIONS:
            return msgspec.json.decode(content, type=BackupManifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupRefused(f"{path}: is no manifest of a backup ({error})") from error
    raise BackupRefused(
        f"{path}: is {head.get('format')!r} {head.get('format_version')}; this program reads {FORMAT} "
        f"{', '.join(map(str, FORMAT_VERSIONS))}. Take the release that wrote it"
    )


def check_backup(folder: Path, *, say: Say) -> BackupManifest:
    """Reads every byte of a backup. Raises BackupRefused, which names what is missing or changed."""
    manifest = read_manifest(folder)
    done = 0
    for file in manifest.files:
        say(f"checking {done >> 20} of {manifest.num_bytes >> 20} MiB")
        path = folder / file.path
        if ".." in Path(file.path).parts or not path.is_file() or digest_of(path) != file.sha256:
            raise BackupRefused(f"{path}: is missing, or was changed since the backup. Take another copy of it")
        done += file.bytes
    return manifest


def files_in(folder: Path) -> Iterator[BackupFile]:
    """Yields every file below a folder with its digest, in the order of the paths."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield BackupFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest_of(path))


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_backup(settings: Settings, store: Store, folder: Path, *, now_ms: int, say: Say) -> BackupManifest:
    """Writes a backup. Raises BackupRefused, WireError, OSError; then there is nothing at `folder`."""
    if folder.exists():
        raise BackupRefused(f"{folder}: is there already. Choose another folder, or remove it")
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    try:
        manifest = _written(settings, store, draft, now_ms=now_ms, say=say)
        sync(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _written(settings: Settings, store: Store, draft: Path, *, now_ms: int, say: Say) -> BackupManifest:
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
        files=tuple(files_in(draft)),
    )
    manifest = msgspec.structs.replace(manifest, seal=store.seals.seal(manifest.sealed, SEALED_AS).decode())
    (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def copy_learner(source: Path, target: Path) -> list[str]:
    """Copies what the learner knows; returns the names. What is removed meanwhile was replaced by something newer."""
    target.mkdir()
    names = [path.name for path in sorted(source.glob("*")) if path.suffix in KEPT]
    return [name for name in names if copy(source / name, target / name)]


def copy(source: Path, target: Path) -> bool:
    """Copies a file, which stays whole while it is open; False where it is gone."""
    try:
        with source.open("rb") as file, target.open("wb") as written:
            shutil.copyfileobj(file, written, CHUNK_BYTES)
    except FileNotFoundError:
        return False
    return True


def sync(folder: Path) -> None:
    """Waits until every file below is on the disk."""
    for path in [folder, *folder.rglob("*")]:
        sync_path(path)


def _copy_store(settings: Settings, store: Store, draft: Path, *, say: Say) -> list[StoredKey]:
    """Writes the keys and the blobs that they need; reads the keys again where versions were removed meanwhile."""
    folder = draft / BLOBS
    folder.mkdir(parents=True)
    for attempt in range(TRIES):
        stored = store.dump.read([settings.learner.lease_name, LEASE])
        blobs = blobs_of(stored)
        try:
            for number, (digest, num_bytes) in enumerate(blobs.items(), 1):
                say(f"blob {number} of {len(blobs)}")
                if not (folder / digest).exists():
                    (folder / digest).write_bytes(store.blobs.get(digest, num_bytes))
            break
        except (NotFound, BlobCorrupt):
            if attempt == TRIES - 1:
                raise
    for path in folder.iterdir():
        if path.name not in blobs:
            path.unlink()
    (draft / KEYS).write_bytes(msgspec.msgpack.encode(stored))
    return stored


def _signers(stored: Sequence[StoredKey]) -> Iterator[str]:
    """Yields the ids of the keys that the signatures name; that of a shared secret has no name."""
    for key in stored:
        if key.type == "hash" and b"body" in key.fields:
            yield signer_of(key.fields.get(b"signature", b"")) or Kind.SHARED


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
    newer = {*_erased_by(store.commands.read()), *_erased(target)}
    newer -= {*_erased_by(entry.command for entry in entries_of(stored))}
    for digest in sorted(newer):
        # Before anything is removed: the log of the store is kept, also if this is interrupted.
        store.commands.append(Erase(digest=digest), source="restore", time_ms=now_ms)
    say("the learner's files")
    aside = target.with_name(f"{target.name}.before-restore")
    _replace_learner(folder / LEARNER, manifest.learner_files, target, aside=aside)
    store.dump.clear(kept=("commands",))
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
    return snapshot.facts.commands.digests if snapshot else []


def _erased_by(commands: Iterable[Command]) -> Iterator[str]:
    """Yields the digests of the subjects that are to be erased."""
    for command in commands:
        if command.verb == Erase.VERB:
            yield command.read(Erase).digest
