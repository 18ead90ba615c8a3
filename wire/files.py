"""Files that are written atomically: after a kill at any moment, `path` has its former content or all of the new.

    block --writes--> PATH.PID.temporary --(fsync ->) rename (-> fsync of the folder)--> PATH

A draft that a killed process has left behind is garbage.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

DRAFT_SUFFIX: Final = ".temporary"


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


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Returns what differs between a file and the one that takes its place. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
