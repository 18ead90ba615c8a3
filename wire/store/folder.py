"""Copies of records and blobs in a folder, which are read and verified by the code that reads Redis.

    Redis --copy: a hash, field by field--> FOLDER/NAME --FolderServer--> Plans, Versions, Blobs of a FolderStore

A file is one hash of the server, and is believed for what its signature or its digest says, as in Redis. Only the plan,
the manifests and the blobs are copied, each of which proves itself.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from wire.config import StoreConfig
from wire.errors import BlobCorrupt, NotFound
from wire.files import atomic_write, locked
from wire.keyring import KeyRing
from wire.records import WeightManifest
from wire.store import keys
from wire.store.server import Server
from wire.store.store import Store, of_task
from wire.tasks import DEFAULT

LOCK: Final = "lock"
MODE: Final = 0o600
MODE_OF_FOLDER: Final = 0o700


class FolderServer(Server):
    """Answers the commands that read plan, manifests and blobs from the files of a folder; `copy` alone connects."""

    def __init__(self, config: StoreConfig, folder: Path) -> None:
        super().__init__(config)
        self.folder = folder
        self._last: tuple[str, Mapping[str, bytes]] = ("", {})  # a blob is asked for chunk by chunk

    def ask(self, *command: Any) -> Any:
        """Returns what Redis would reply. A file that is missing or cannot be read is a hash without fields."""
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
        """Copies a hash of the server that the settings name. Raises OSError, StoreUnavailable."""
        name = self.key(*parts)
        fields = [field.decode() for field in super().ask("HKEYS", name)]
        values = dict[str, bytes]()
        for field in fields:
            values[field] = super().ask("HGET", name, field) or b""
        with atomic_write(self._path(name), mode=MODE) as file:
            file.write(msgspec.msgpack.encode(values))
        self._last = ("", {})

    def keep(self, names: Iterable[str]) -> None:
        """Removes every file but these hashes. Raises OSError."""
        self._last = ("", {})
        kept = {LOCK, *(self._path(name).name for name in names)}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def has(self, *parts: str | int) -> bool:
        """Whether there is a file of this hash."""
        return self._path(self.key(*parts)).exists()

    def _path(self, name: str) -> Path:
        return self.folder / name.removeprefix(self.config.prefix)

    def _hash(self, name: str) -> Mapping[str, bytes]:
        if self._last[0] != name:
            try:
                fields = msgspec.msgpack.decode(self._path(name).read_bytes(), type=dict[str, bytes])
            except (OSError, msgspec.DecodeError):
                return {}
            self._last = (name, fields)
        return self._last[1]


class FolderStore(Store):
    """A copy of a task's plan, and of the versions that answer under it. Belongs to one thread. Verbs: save.

    `plans.read`, `versions.manifest`, `versions.signatures` and `blobs.get` read and verify what is in the folder; no
    other method may be called. All replicas of a machine share the folder.
    """

    def __init__(self, folder: Path, config: StoreConfig, ring: KeyRing, *, task: str = DEFAULT) -> None:
        self._files = FolderServer(of_task(config, task), folder)
        super().__init__(config, ring, task=task, server=self._files)
        self._intact: set[str] = set()  # the digests of the blobs that this process has verified

    def save(self, manifests: Sequence[WeightManifest]) -> bool:
        """Copies the plan in force and these versions, verifies the copies, and removes every other one.

        Returns False, and copies nothing, while another process does. If it is killed or fails, every file is whole.
        Raises OSError and WireError.
        """
        self._files.folder.mkdir(mode=MODE_OF_FOLDER, parents=True, exist_ok=True)
        lock = locked(os.open(self._files.folder / LOCK, os.O_CREAT | os.O_RDWR, MODE))
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
        numbers = [manifest.version for manifest in manifests]
        key = self._files.key
        self._files.keep(
            [key(keys.PLAN), *(key(keys.MANIFEST, each) for each in numbers), *(key(keys.BLOB, each) for each in sizes)]
        )
        self._intact = set(sizes)

    def _copy_blob(self, digest: str, num_bytes: int) -> None:
        """Copies a blob, unless it is here whole."""
        if digest in self._intact and self._files.has(keys.BLOB, digest):
            return
        try:
            self.blobs.get(digest, num_bytes)
        except (NotFound, BlobCorrupt):
            self._files.copy(keys.BLOB, digest)
            self.blobs.get(digest, num_bytes)
        self._intact.add(digest)
