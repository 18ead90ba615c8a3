"""The state folder of a Ray that we start: locked while its owner lives, and removed with it.

state_folder: abandoned folders are removed -> a new folder, locked -> ... -> removed, unlocked
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER_PREFIX = "lifelong-ray-"
"""The prefix is short, because sockets lie in the folder and a socket's path may have 107 bytes."""

LOCK = "owner.lock"


@contextmanager
def state_folder(parent: Path) -> Iterator[Path]:
    """Yields a folder in `parent` that is removed at the end; folders of killed processes are removed first.

    A file in the folder is locked while its owner lives. The kernel releases the lock however the owner ends.
    """
    for other in parent.glob(f"{FOLDER_PREFIX}*"):
        _remove_abandoned(other)
    folder, lock = _new_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_folder(parent: Path) -> tuple[Path, int]:
    """Makes a folder and locks it. Another process may remove it before it is locked: then another one is made."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    """Removes the folder unless its owner lives, or it has no lock file, so that no owner is known."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
