"""The newest checkpoint at an address that the learners of all machines reach, so that another one can go on from it.

    leader: checkpoint --offer--> a thread: adopted encoders, then the checkpoint --> the address (of fsspec)
    next leader: lease --> fetch: what is newer than all in its own folder --> restore --> a checkpoint of its own epoch
    at the address: content of NAME, then the seal of its SHA-256 as `checkpoint:NAME`        in the folder: no seal

The folder of each learner is its own, with its journals; only the newest checkpoint is at the address, and what it
needs. Each name has the epoch of the leader that wrote it, and the highest epoch is the newest: so a leader that slept
over its lease overwrites nothing, and what it may still write is older than the first checkpoint of its successor,
which is there before that does anything else. Others may write at the address: what no key of ours has sealed under its
name is not fetched, for the learner would sign what it makes of it. If the address does not answer, the leader goes on
without it, and the next one would read more labels again: it is behind the store's version then, and reads on to it
(`learner.release.parent`).

Rejected: checkpoints in Redis (tens of megabytes every few seconds, in memory and on its replicas), every file at the
address alone (a journal is appended to before each version, which object stores cannot do), and a lock there (few file
systems have one, and epochs need none).
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
"""Added to the nice value of the thread that sends: no label waits for it."""

log = structlog.get_logger("learner")


def shared_folder(address: str, folder: Path, seals: Seals) -> "SharedFolder | NotShared":
    """Returns the folder at `address`, of a learner whose own folder is `folder`. Raises StateRefused."""
    return SharedFolder(address, folder, seals) if address else NotShared()


class NotShared:
    """Stands for an address that is not set: each learner has its own folder alone."""

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
    """Belongs to one learner. Raises StateRefused where no file system is named. Verbs: fetch, offer, close."""

    def __init__(self, address: str, folder: Path, seals: Seals) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise StateRefused(f"learner.checkpoint_url: {error}") from error
        self._address: str = self._files.unstrip_protocol(self._root)
        self._folder = folder
        self._seals = seals
        self._sealed_by = ""  # the key that sealed the encoders which are there
        self._thread = ThreadPoolExecutor(1, "share", initializer=lower_priority, initargs=(NICENESS,))
        self._lock = threading.Lock()  # guards the next three
        self._waiting: Path | None = None
        self._is_sending = False
        self._stale: StaleEpoch | None = None
        self._is_first = True
        self._is_failing = False

    def highest_epoch(self) -> int:
        """Returns the epoch of the last leader that has sent something; 0 for none. Raises StoreUnavailable."""
        return max((entry.epoch for entry in self.entries()), default=0)

    def entries(self) -> list[CheckpointFile]:
        """Returns the checkpoints that are there, newest first. Raises StoreUnavailable."""
        return newest_first(map(Path, self._names()))

    def fetch(self) -> None:
        """Copies the newest checkpoint into the learner's folder, unless it is older than one there.

        What no key of ours has sealed stays where it is. Raises StoreUnavailable, and FolderTaken where the address is
        of another service. The learner must hold the lease: so nobody sends but a leader that has lost it.
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
                log.info("fetched", checkpoint=name, address=self._address)
                return

    def offer(self, path: Path) -> None:
        """Sends the first checkpoint of this process now, later ones beside the learner, the newest that waits alone.

        Raises StaleEpoch, also for an earlier one, and CheckpointFailed where the first could not be sent.
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
        """Returns when what was offered is sent, or has failed."""
        self._thread.shutdown()

    def _claim(self, names: Set[str]) -> None:
        """Makes the address that of the service whose folder this is. Raises FolderTaken where it is of another one."""
        own = self._folder / OWNER_FILE
        if not own.exists():
            return
        if OWNER_FILE not in names:
            with self._mapped():
                self._files.makedirs(self._root, exist_ok=True)
                self._files.pipe_file(self._at(OWNER_FILE), own.read_bytes())
            return
        with self._mapped():
            content: bytes = self._files.cat_file(self._at(OWNER_FILE))
        owner = msgspec.json.decode(own.read_bytes(), type=FolderOwner)
        require_owner(content, owner, f"{self._address}/{OWNER_FILE}", "learner.checkpoint_url")

    def _send_waiting(self) -> None:
        """Sends until nothing waits. What fails is left to the next checkpoint."""
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
                    log.warning("not_shared", checkpoint=path.name, reason=str(error))
                self._is_failing = True
            else:
                self._is_failing = False

    def _send(self, path: Path) -> None:
        """Sends a checkpoint and what it needs, then removes the rest. Raises StaleEpoch, StoreUnavailable."""
        if not path.exists():
            return  # a newer one has taken its place, and is offered next
        (own,) = named([path])
        names = self._names()
        self._check_epoch(own, names)
        encoders = {file.name for file in self._folder.glob(f"*{ENCODER_SUFFIX}")}
        signer = self._seals.signer
        for name in sorted(encoders - names if signer == self._sealed_by else encoders):
            self._upload(self._folder / name)
        self._sealed_by = signer
        self._upload(path)
        self._check_epoch(own, self._names())
        for name in names - encoders - {path.name}:
            if name.endswith((ENCODER_SUFFIX, DRAFT_SUFFIX)) or any(named([Path(name)])):
                self._remove(name)

    def _check_epoch(self, own: CheckpointFile, names: Set[str]) -> None:
        highest = max((entry.epoch for entry in newest_first(map(Path, names))), default=0)
        if highest > own.epoch:
            raise StaleEpoch(f"{self._address}: a leader of epoch {highest} has written; ours is {own.epoch}")

    def _upload(self, path: Path) -> None:
        """Sends a file with its seal, which has its name there when it is whole."""
        draft = self._at(f"{path.name}.{os.getpid()}{DRAFT_SUFFIX}")
        with self._mapped():
            self._files.makedirs(self._root, exist_ok=True)
            with self._files.open(draft, "wb") as file:
                write_sealed(path, file, self._seals)
            self._files.mv(draft, self._at(path.name))

    def _download(self, name: str) -> bool:
        """Copies a file into the learner's folder; False where no key of ours has sealed it under its name."""
        draft = self._folder / f"{name}.{os.getpid()}{DRAFT_SUFFIX}"
        try:
            with self._mapped():
                self._files.get_file(self._at(name), str(draft))
            take_seal(draft, name, self._seals)
            draft.replace(self._folder / name)
        except BadSignature as error:
            log.error("not_sealed", file=name, address=self._address, reason=str(error))
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _remove(self, name: str) -> None:
        with self._mapped(), suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def _names(self) -> set[str]:
        """Returns the names of all files that are there."""
        with self._mapped():
            self._files.invalidate_cache()
            try:
                paths: list[str] = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Maps what a file system raises: each has errors of its own."""
        try:
            yield
        except PermissionError as error:
            raise StoreRefused(f"{self._address}: {error}: let this account read and write there") from error
        except Exception as error:  # the libraries behind fsspec have no common class of errors
            raise StoreUnavailable(f"{self._address}: {error or type(error).__name__}") from error


CHUNK_BYTES: Final = 4 << 20


def write_sealed(path: Path, target: BinaryIO, seals: Seals) -> None:
    """Writes the file at `path`, and its seal, to `target`. Raises OSError."""
    digest = sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
    target.write(seals.seal(digest.digest(), f"checkpoint:{path.name}"))


def take_seal(path: Path, name: str, seals: Seals) -> None:
    """Takes the seal off the end of the file at `path`. Raises BadSignature unless it is ours for `name`, OSError."""
    digest = sha256()
    with path.open("r+b") as file:
        num_left = num_bytes = max(file.seek(0, os.SEEK_END) - SEAL_CHARS, 0)
        file.seek(0)
        while chunk := file.read(min(num_left, CHUNK_BYTES)):
            digest.update(chunk)
            num_left -= len(chunk)
        seals.check(digest.digest(), file.read(), f"checkpoint:{name}")
        file.truncate(num_bytes)
