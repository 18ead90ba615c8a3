"""The folder of a backup: its manifest, with the size and the digest of each file, and the check of all of them.

    backup.json                 what is in it; written last
    store/keys.msgpack          the keys of the store, but the blobs
    store/blobs/<digest>        the weights
    learner/                    checkpoints with their journals, and adopted encoders

Rejected: an archive file (a folder can be copied by parts, and its blobs be shared with the backup before).
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

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
