"""Writes files so that a crash leaves the old content or the new one, and says which service a folder of state is of.

    atomic_write    a draft --the block ends--> the file            a crash or an error before that --> the old file
    FileWatch       the file has another stamp --> it is read again
    claim_folder    no `service.json` --> the folder is ours        that of another service --> FolderTaken

A folder of state has an owner, which `service.json` names by the service's prefixes and its task. Two services on the
same machine may differ in nothing but their prefixes, and both settings then name the same folder. Without an owner one
service would go on from the other's checkpoint, with its texts, or send the answers that the other has left in its
spool. A folder without the file belongs to the service that starts on it first.
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
"""Names the owner of a folder, beside the state that it keeps there."""

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
    """Yields a draft, which becomes the file at `path` when the block ends, or is removed when anything raises.

    `mode` is the mode of the file, less the umask. With `is_synced` the file survives a power cut, too. `before_rename`
    is called right before the draft gets its name. Raises OSError, and FileExistsError where there is a file that the
    draft may not replace: of two processes that write it at the same time, one succeeds.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT_SUFFIX}")
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
        if is_synced:
            sync_path(path.parent)  # also after FileExistsError: what the other process wrote is on disk then


def locked(fd: int) -> int | None:
    """Locks the file of `fd` until its process ends, and returns it. Closes it and returns None where another process
    holds the lock, or has removed the file. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    if os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Returns what differs between a file and the one that takes its place; None where there is none to be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatch:
    """Notices that files have changed, such as keys that rotate, and looks at them every `check_s` at most.

    Not `is_read`: nobody has read them yet. Not thread-safe; a copy in another process goes on with its own.
    """

    def __init__(
        self, *paths: Path, check_s: float, is_read: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._check_s = check_s
        self._clock = clock
        self._stamps = self._found() if is_read else None
        self._checked_s = clock() if is_read else -math.inf

    def read_again(self, read: Callable[[], T]) -> T | None:
        """Returns what `read` returns, where the files have changed; None where they have not, or it is too soon.

        Raises what `read` raises, also where a file is gone; it is called again at the next look then.
        """
        now_s = self._clock()
        if 0 <= now_s - self._checked_s < self._check_s:  # below 0: the clock is that of another machine
            return None
        self._checked_s = now_s
        if (stamps := self._found()) == self._stamps:
            return None
        found = read()
        self._stamps = stamps
        return found

    def _found(self) -> list[tuple[int, int, int] | None]:
        return list(map(stamp_of, self._paths))


class FolderOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What tells services on the same servers apart, and the tasks of one."""

    bus_prefix: str
    store_prefix: str
    task: str = ""


def claim_folder(folder: Path, owner: FolderOwner, setting: str) -> None:
    """Makes `folder`, which `setting` names, that of `owner`. Raises FolderTaken where it is of another service.

    Where the disk refuses the file, the folder stays as it is: no program is held up by that.
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
    """Raises FolderTaken where `content`, of the file at `path`, names another service than `owner`."""
    try:
        found = msgspec.json.decode(content, type=FolderOwner)
    except msgspec.DecodeError as error:
        raise FolderTaken(f"{path}: does not say whose state is beside it ({error}). {_fix(path, setting)}") from error
    if found != owner:
        raise FolderTaken(
            f"{path}: the state beside it is of {_named(found)}, and ours is {_named(owner)}. {_fix(path, setting)}"
        )


def _named(owner: FolderOwner) -> str:
    task = f", task {owner.task!r}" if owner.task else ""
    return f"the service with bus.prefix {owner.bus_prefix!r}, store.prefix {owner.store_prefix!r}{task}"


def _fix(path: str, setting: str) -> str:
    return (
        f"Give each service a place of its own (state_dir, or {setting}); where its prefixes were changed, "
        f"remove {path}"
    )


def sync_path(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
