"""Copies of records and blobs in a folder. They are read and verified by the same code that reads Redis.

    Redis --copy: a hash, field by field--> FOLDER/NAME --FolderServer--> Plans, Versions, Blobs of a FolderStore

A file is one hash of the server. Its signature or its digest is verified, as in Redis. Only the plan, the manifests and
the blobs are copied, because each of them has a signature or a digest.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from wire.config import StoreConfig
from wire.errors import BlobCorrupt, NotFound
from wire.files import atomic_write, lock_or_close
from wire.keyring import KeyRing
from wire.records import WeightManifest
from wire.store import keys
from wire.store.server import Server
from wire.store.store import Store, task_config
from wire.tasks import DEFAULT

LOCK: Final = "lock"
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


class FolderServer(Server):
    """Answers the commands that read plan, manifests and blobs from files in a folder. Only `copy` uses Redis."""

    def __init__(self, config: StoreConfig, folder: Path) -> None:
        super().__init__(config)
        self.folder = folder
        # The hash that was read last: a blob is read chunk by chunk.
        self._last_hash: tuple[str, Mapping[str, bytes]] = ("", {})

    def ask(self, *command: Any) -> Any:
        """Returns the reply that Redis would give. A file that is missing or unreadable is a hash without fields.

        Raises NotImplementedError for commands other than HGET, HMGET and HSTRLEN.
        """
        match command:
            case ("HGET", name, field):
                return self._hash(name).get(str(field))
            case ("HMGET", name, *fields):
                return [self._hash(name).get(str(field)) for field in fields]
            case ("HSTRLEN", name, field):
                return len(self._hash(name).get(str(field), b""))
        raise NotImplementedError(f"a folder does not answer {command[0]}")

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        return [self.ask(*command) for command in commands]

    def copy(self, *parts: str | int) -> None:
        """Copies a hash from the Redis server of the settings. Raises OSError, StoreUnavailable."""
        name = self.key(*parts)
        fields = [field.decode() for field in super().ask("HKEYS", name)]
        values = dict[str, bytes]()
        for field in fields:
            values[field] = super().ask("HGET", name, field) or b""
        with atomic_write(self._path(name), mode=FILE_MODE) as file:
            file.write(msgspec.msgpack.encode(values))
        self._last_hash = ("", {})

    def keep(self, names: Iterable[str]) -> None:
        """Removes every file except the files of the hashes `names`. Raises OSError."""
        self._last_hash = ("", {})
        kept = {LOCK, *(self._path(name).name for name in names)}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def has(self, *parts: str | int) -> bool:
        """Whether the hash has a file."""
        return self._path(self.key(*parts)).exists()

    def _path(self, name: str) -> Path:
        return self.folder / name.removeprefix(self.config.prefix)

    def _hash(self, name: str) -> Mapping[str, bytes]:
        if self._last_hash[0] != name:
            try:
                fields = msgspec.msgpack.decode(self._path(name).read_bytes(), type=dict[str, bytes])
            except (OSError, msgspec.DecodeError):
                return {}
            self._last_hash = (name, fields)
        return self._last_hash[1]


class FolderStore(Store):
    """A copy of a task's plan and of the versions that answer under it. It belongs to one thread.

    `save` writes the folder. `plans.read`, `versions.manifest`, `versions.signatures` and `blobs.get` read the folder
    and verify its contents. No other method may be called. All replicas of a machine share the folder.
    """

    def __init__(self, folder: Path, config: StoreConfig, ring: KeyRing, *, task: str = DEFAULT) -> None:
        self._files = FolderServer(task_config(config, task), folder)
        super().__init__(config, ring, task=task, server=self._files)
        # Digests of the blobs that this process has verified.
        self._verified: set[str] = set()

    def save(self, manifests: Sequence[WeightManifest]) -> bool:
        """Copies the plan in force and these versions, verifies the copies, and removes all other files.

        Returns False and copies nothing while another process copies. After a kill or an error every file is complete.
        Raises OSError and WireError.
        """
        self._files.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        lock = lock_or_close(os.open(self._files.folder / LOCK, os.O_CREAT | os.O_RDWR, FILE_MODE))
        if lock is None:
            return False
        try:
            self._copy(manifests)
        finally:
            os.close(lock)
        return True

    def _copy(self, manifests: Sequence[WeightManifest]) -> None:
        sizes = {tensor.digest: tensor.num_bytes for manifest in manifests for tensor in manifest.tensors}
        for digest, num_bytes in sizes.items():
            self._copy_blob(digest, num_bytes)
        for manifest in manifests:
            self._files.copy(keys.MANIFEST, manifest.version)
            self.versions.manifest(manifest.version)
        self._files.copy(keys.PLAN)
        self.plans.read()
        names = [self._files.key(keys.PLAN)]
        names += [self._files.key(keys.MANIFEST, manifest.version) for manifest in manifests]
        names += [self._files.key(keys.BLOB, digest) for digest in sizes]
        self._files.keep(names)
        self._verified = set(sizes)

    def _copy_blob(self, digest: str, num_bytes: int) -> None:
        """Copies a blob, unless the folder has a valid copy."""
        if digest in self._verified and self._files.has(keys.BLOB, digest):
            return
        try:
            self.blobs.get(digest, num_bytes)
        except (NotFound, BlobCorrupt):
            self._files.copy(keys.BLOB, digest)
            self.blobs.get(digest, num_bytes)
        self._verified.add(digest)
