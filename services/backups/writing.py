"""Writes a backup while the service runs: a folder that is whole or not there.

    FOLDER.partial: learner's files -> store's keys -> blobs -> journals again -> manifest -> on disk -> FOLDER

A checkpoint holds the offsets up to which it was learnt, so a restored learner reads the labels since then from the
topics, each once. It is copied before the store is read: the store is then ahead of it, as it is after any crash, and
never behind. What a journal got meanwhile is copied after the store was read, for versions that may be rolled back to.

Rejected: stopping anything, and a lock (whatever is replaced meanwhile was whole, and is so in the copy).
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from rollout.controller import LEASE
from services.backups.format import (
    BLOBS,
    CHUNK_BYTES,
    KEPT,
    KEYS,
    LEARNER,
    MANIFEST,
    SEALED_AS,
    BackupManifest,
    BackupRefused,
    Say,
    files_in,
)
from services.settings import Settings
from wire.errors import BlobCorrupt, NotFound
from wire.keyring import Kind, signer_of
from wire.store import Store, StoredKey, blobs_of, manifests

TRIES: Final = 5
"""How often the store is read where versions were removed while their blobs were fetched."""


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
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
