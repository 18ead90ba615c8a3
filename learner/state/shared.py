"""Copies the newest checkpoint to an address that the learners of all machines reach, so that a standby can continue.

    leader: checkpoint --offer--> a thread: adopted encoders, then the checkpoint --> the address (by fsspec)
    next leader: lease --> fetch: a checkpoint newer than its own --> restore --> a checkpoint of its own epoch
    at the address: content of NAME, then the seal of its SHA-256 as `checkpoint:NAME`        in the folder: no seal

Each learner has its own folder, with its journals. At the address there are only the newest checkpoint and the encoders
that it needs. Each file name contains the epoch of the leader that wrote the file, and the file with the highest epoch
is the newest. So a leader that slept past the end of its lease overwrites nothing. A file that it still writes is older
than the first checkpoint of its successor, and the successor writes that before it does anything else.

Other accounts may be able to write at the address. The learner signs the versions that it makes from a checkpoint. So
it only fetches a file if one of our keys has sealed the file under its name. If the address is unreachable, the leader
continues without it. The next leader then starts from an older checkpoint, and reads the labels up to the store's
version again (`learner.release.parent`).

Rejected:

- Checkpoints in Redis: tens of megabytes every few seconds, in its memory and on its replicas.
- All files only at the address: object stores cannot append to a journal before each version.
- A lock at the address: few file systems have locks, and epochs need none.
"""

import os
import threading
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import fsspec  # type: ignore[import-untyped]
import msgspec
import structlog

from learner.encoder.base import ENCODER_SUFFIX
from learner.errors import CheckpointFailed, StateRefused
from learner.state.checkpoints import CheckpointFile, named, newest_first
from wire.errors import BadSignature, StaleEpoch, StoreRefused, StoreUnavailable
from wire.files import DRAFT_SUFFIX, OWNER_FILE, FolderOwner, require_owner
from wire.store import SEAL_CHARS, Seals
from wire.threads import lower_priority

NICENESS = 10
"""Added to the nice value of the sending thread, since no label waits for it."""

log = structlog.get_logger("learner")


def shared_folder(address: str, folder: Path, seals: Seals) -> "SharedFolder | NoSharedFolder":
    """Returns the shared folder at `address` for the learner with the local `folder`. Raises StateRefused."""
    return SharedFolder(address, folder, seals) if address else NoSharedFolder()


class NoSharedFolder:
    """Replaces `SharedFolder` if no address is set: each learner has only its own folder. All methods do nothing."""

    def highest_epoch(self) -> int:
        return 0

    def entries(self) -> list[CheckpointFile]:
        return []

    def fetch(self) -> None:
        pass

    def offer(self, path: Path) -> None:
        pass

    def close(self) -> None:
        pass


class SharedFolder:
    """The folder at the shared address. A new leader calls `fetch`, and then `offer` for each checkpoint."""

    def __init__(self, address: str, folder: Path, seals: Seals) -> None:
        """Opens the file system of `address`. Raises StateRefused if fsspec has none for it."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise StateRefused(f"learner.checkpoint_url: {error}") from error
        self._address: str = self._files.unstrip_protocol(self._root)
        self._folder = folder
        self._seals = seals
        # The key that sealed the encoders at the address.
        self._sealed_by = ""
        self._thread = ThreadPoolExecutor(1, "share", initializer=lower_priority, initargs=(NICENESS,))
        # The lock guards the next three attributes.
        self._lock = threading.Lock()
        self._waiting: Path | None = None
        self._is_sending = False
        self._stale: StaleEpoch | None = None
        self._is_first = True
        self._is_failing = False

    def highest_epoch(self) -> int:
        """Returns the epoch of the last leader that has sent a checkpoint; 0 if none has. Raises StoreUnavailable."""
        return max((entry.epoch for entry in self.entries()), default=0)

    def entries(self) -> list[CheckpointFile]:
        """Returns the checkpoints at the address, newest first. Raises StoreUnavailable."""
        return newest_first(map(Path, self._names()))

    def fetch(self) -> None:
        """Copies the newest checkpoint into the learner's folder, if it is newer than all checkpoints there.

        Skips files that none of our keys has sealed. The learner must hold the lease: then no other learner sends
        checkpoints, except one that has just lost the lease. Raises StoreUnavailable, and FolderTaken if the address
        belongs to another service.
        """
        names = self._names()
        self._claim(names)
        own = max((entry.order for entry in named(self._folder.iterdir())), default=(0, 0))
        newer = [entry.path.name for entry in newest_first(map(Path, names)) if entry.order > own]
        if not newer:
            return
        for name in sorted(names):
            if name.endswith(ENCODER_SUFFIX) and not (self._folder / name).exists():
                self._download(name)
        for name in newer:
            if self._download(name):
                log.info("checkpoint_fetched", checkpoint=name, address=self._address)
                return

    def offer(self, path: Path) -> None:
        """Sends a checkpoint: the first one of this process now, and later ones in a thread, which skips outdated ones.

        Raises StaleEpoch if a later leader has sent a checkpoint, and CheckpointFailed if the first one cannot be sent.
        """
        if self._is_first:
            try:
                self._send(path)
            except StoreUnavailable as error:
                raise CheckpointFailed(str(error)) from error
            self._is_first = False
            return
        with self._lock:
            if self._stale is not None:
                raise self._stale
            self._waiting = path
            if not self._is_sending:
                self._is_sending = True
                self._thread.submit(self._send_waiting)

    def close(self) -> None:
        """Waits until every offered checkpoint is sent or has failed, and ends the thread."""
        self._thread.shutdown()

    def _claim(self, names: Set[str]) -> None:
        """Claims the address for the service that owns the learner's folder.

        Raises FolderTaken if it belongs to another service, and StoreUnavailable.
        """
        own = self._folder / OWNER_FILE
        if not own.exists():
            return
        if OWNER_FILE not in names:
            with self._translated_errors():
                self._files.makedirs(self._root, exist_ok=True)
                self._files.pipe_file(self._path(OWNER_FILE), own.read_bytes())
            return
        with self._translated_errors():
            content: bytes = self._files.cat_file(self._path(OWNER_FILE))
        owner = msgspec.json.decode(own.read_bytes(), type=FolderOwner)
        require_owner(content, owner, f"{self._address}/{OWNER_FILE}", "learner.checkpoint_url")

    def _send_waiting(self) -> None:
        """Sends checkpoints until none is waiting. A failed one is not sent again, since the next one replaces it."""
        while True:
            with self._lock:
                path = self._waiting
                self._waiting = None
                self._is_sending = path is not None
            if path is None:
                return
            try:
                self._send(path)
            except StaleEpoch as error:
                self._stale = error
            except StoreUnavailable as error:
                if not self._is_failing:
                    log.warning("checkpoint_not_shared", checkpoint=path.name, reason=str(error))
                self._is_failing = True
            else:
                self._is_failing = False

    def _send(self, path: Path) -> None:
        """Sends a checkpoint and its encoders, then removes all older files. Raises StaleEpoch, StoreUnavailable."""
        # If the checkpoint was pruned meanwhile, a newer one was written, which will be offered next.
        if not path.exists():
            return
        (own,) = named([path])
        names = self._names()
        self._check_epoch(own, names)
        encoders = {file.name for file in self._folder.glob(f"*{ENCODER_SUFFIX}")}
        # If the signing key has changed, all encoders are sealed again.
        signer = self._seals.signer
        missing = encoders - names if signer == self._sealed_by else encoders
        for name in sorted(missing):
            self._upload(self._folder / name)
        self._sealed_by = signer
        self._upload(path)
        # A later leader may have sent its checkpoint meanwhile. Then nothing is removed.
        self._check_epoch(own, self._names())
        for name in names - encoders - {path.name}:
            if name.endswith((ENCODER_SUFFIX, DRAFT_SUFFIX)) or any(named([Path(name)])):
                self._remove(name)

    def _check_epoch(self, own: CheckpointFile, names: Set[str]) -> None:
        """Raises StaleEpoch if `names` contains a file of a later leader."""
        highest = max((entry.epoch for entry in newest_first(map(Path, names))), default=0)
        if highest > own.epoch:
            raise StaleEpoch(f"{self._address}: a leader of epoch {highest} has written; ours is {own.epoch}")

    def _upload(self, path: Path) -> None:
        """Sends a file with its seal, as a draft, which is renamed once it is complete. Raises StoreUnavailable."""
        draft = self._path(f"{path.name}.{os.getpid()}{DRAFT_SUFFIX}")
        with self._translated_errors():
            self._files.makedirs(self._root, exist_ok=True)
            with self._files.open(draft, "wb") as file:
                write_sealed(path, file, self._seals)
            self._files.mv(draft, self._path(path.name))

    def _download(self, name: str) -> bool:
        """Copies a file into the learner's folder. Returns False if none of our keys has sealed it under its name."""
        draft = self._folder / f"{name}.{os.getpid()}{DRAFT_SUFFIX}"
        try:
            with self._translated_errors():
                self._files.get_file(self._path(name), str(draft))
            strip_seal(draft, name, self._seals)
            draft.replace(self._folder / name)
        except BadSignature as error:
            log.error("checkpoint_not_sealed", file=name, address=self._address, reason=str(error))
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _remove(self, name: str) -> None:
        with self._translated_errors(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def _names(self) -> set[str]:
        """Returns the names of all files at the address. Raises StoreUnavailable."""
        with self._translated_errors():
            self._files.invalidate_cache()
            try:
                paths: list[str] = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def _path(self, name: str) -> str:
        """Returns the path of a file at the address, in its file system."""
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translates the errors of a file system of fsspec into StoreRefused and StoreUnavailable."""
        try:
            yield
        except PermissionError as error:
            raise StoreRefused(f"{self._address}: {error}: let this account read and write there") from error
        # The libraries behind fsspec have no common class of errors.
        except Exception as error:
            raise StoreUnavailable(f"{self._address}: {error or type(error).__name__}") from error


CHUNK_BYTES: Final = 4 << 20


def write_sealed(path: Path, target: BinaryIO, seals: Seals) -> None:
    """Writes the file at `path` to `target`, followed by its seal. Raises OSError."""
    digest = sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    target.write(seals.seal(digest.digest(), f"checkpoint:{path.name}"))


def strip_seal(path: Path, name: str, seals: Seals) -> None:
    """Checks the seal at the end of the file at `path`, and removes the seal from the file.

    Raises BadSignature unless one of our keys has sealed the file as `name`, and OSError.
    """
    digest = sha256()
    with path.open("r+b") as file:
        num_bytes = max(file.seek(0, os.SEEK_END) - SEAL_CHARS, 0)
        num_unread = num_bytes
        file.seek(0)
        while chunk := file.read(min(num_unread, CHUNK_BYTES)):
            digest.update(chunk)
            num_unread -= len(chunk)
        seals.check(digest.digest(), file.read(), f"checkpoint:{name}")
        file.truncate(num_bytes)
