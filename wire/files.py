"""Files that are written atomically: after a kill at any moment, `path` has its former content or all of the new.

    block --writes--> PATH.PID.temporary --(fsync ->) rename (-> fsync of the folder)--> PATH

A draft that a killed process has left behind is garbage. `FileWatch` notices such a change in a process that has read
the file.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

DRAFT_SUFFIX: Final = ".temporary"

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
            _sync_folder(path.parent)  # also after FileExistsError: what the other process wrote is on disk then


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
