"""Atomic writes of files, files that are read again after a change, locks, and the owners of state folders.

    atomic_write    a draft --the block ends--> the file            a crash or an error before that --> the old file
    FileWatch       the file's time, size or inode has changed --> it is read again
    claim_folder    no `service.json` --> the folder is ours        another service's file --> FolderTaken

A state folder has an owner: the service that `service.json` names by its prefixes and its task. Two services on one
machine may differ only in their prefixes, and then use the same folder by mistake. Without the owner, one service would
continue from the other service's checkpoint, or send the answers in the other service's spool. A folder without the
file belongs to the first service that uses it.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from wire.errors import FolderTaken

DRAFT_SUFFIX: Final = ".temporary"

OWNER_FILE: Final = "service.json"
"""The file in a state folder that names its owner."""

T = TypeVar("T")


def do_nothing() -> None:
    """The default of `before_rename`."""


@contextmanager
def atomic_write(
    path: Path,
    *,
    mode: int = 0o666,
    is_synced: bool = False,
    may_replace: bool = True,
    before_rename: Callable[[], None] = do_nothing,
) -> Iterator[BinaryIO]:
    """Yields a draft, which becomes the file at `path` when the block ends, or is removed if the block raises.

    - `mode`: the permissions of the file, before the umask.
    - `is_synced`: the file survives a power cut, too.
    - `may_replace`: if False and there is such a file already, raises FileExistsError. If two processes write the file
      at the same time, one of them succeeds.
    - `before_rename`: called immediately before the draft gets its name.

    Raises OSError.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT_SUFFIX}")
    # `link` fails if the file exists, unlike `replace`.
    rename = os.replace if may_replace else os.link
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            yield file
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        before_rename()
        rename(draft, path)
    finally:
        draft.unlink(missing_ok=True)
        # After FileExistsError, too: the caller relies on the other process's file.
        if is_synced:
            sync_path(path.parent)


def lock_or_close(fd: int) -> int | None:
    """Locks the open file `fd` until this process ends or closes it, and returns `fd`.

    If another process has the lock, or has removed the file, closes `fd` and returns None. Raises OSError.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    # The lock of a removed file is worthless, because other processes lock the new file of that name.
    if os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Returns the time, the size and the inode of a file; at least one changes if it is replaced. None: it cannot be
    read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatch:
    """Reads files again after a change, for example a file of keys. Checks for changes at most every `check_s` seconds.

    `is_read`: the caller has read the files already. If false, the first call of `read_again` reads them. Not
    thread-safe. A copy in another process is independent.
    """

    def __init__(
        self, *paths: Path, check_s: float, is_read: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._check_s = check_s
        self._clock = clock
        self._stamps = self._read_stamps() if is_read else None
        self._checked_s = clock() if is_read else -math.inf

    def read_again(self, read: Callable[[], T]) -> T | None:
        """Calls `read` and returns its result if the files have changed. Returns None if not, or if no check is due.

        If `read` raises, for example because a file is missing, the exception is passed on, and the next check calls
        `read` again.
        """
        now_s = self._clock()
        # A negative difference means that this is a copy from another machine with another clock.
        if 0 <= now_s - self._checked_s < self._check_s:
            return None
        self._checked_s = now_s
        if (stamps := self._read_stamps()) == self._stamps:
            return None
        # If `read` raises, the old stamps stay, so that the next check reads again.
        result = read()
        self._stamps = stamps
        return result

    def _read_stamps(self) -> list[tuple[int, int, int] | None]:
        return list(map(file_stamp, self._paths))


class FolderOwner(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of a state folder: a service, by its prefixes, which are unique on its servers, and a task."""

    bus_prefix: str
    store_prefix: str
    task: str = ""


def claim_folder(folder: Path, owner: FolderOwner, setting: str) -> None:
    """Makes `owner` the owner of `folder`, which `setting` names. Raises FolderTaken if another service owns it.

    If the disk refuses the file, the folder stays without an owner, because this must not stop a program.
    """
    path = folder / OWNER_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(path, mode=0o600, is_synced=True, may_replace=False) as file:
            file.write(msgspec.json.encode(owner))
    except FileExistsError:
        require_owner(path.read_bytes(), owner, str(path), setting)
    except OSError:
        return


def require_owner(content: bytes, owner: FolderOwner, path: str, setting: str) -> None:
    """Raises FolderTaken if `content`, read from the file at `path`, names another service than `owner`."""
    try:
        actual = msgspec.json.decode(content, type=FolderOwner)
    except msgspec.DecodeError as error:
        raise FolderTaken(f"{path}: does not name the owner of the folder ({error}). {_fix(path, setting)}") from error
    if actual != owner:
        raise FolderTaken(
            f"{path}: the folder has the state of {_describe(actual)}, and this is {_describe(owner)}. "
            f"{_fix(path, setting)}"
        )


def _describe(owner: FolderOwner) -> str:
    task = f", task {owner.task!r}" if owner.task else ""
    return f"the service with bus.prefix {owner.bus_prefix!r}, store.prefix {owner.store_prefix!r}{task}"


def _fix(path: str, setting: str) -> str:
    return (
        f"Give each service its own place (state_dir, or {setting}); if the prefixes of this service were changed, "
        f"remove {path}"
    )


def sync_path(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
