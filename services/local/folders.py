"""Private folders, and file locks with one owner at a time."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

OWNER = 0o700


def private_folder(path: Path) -> Path:
    """Creates a folder that only its owner may enter. An existing folder becomes private, too."""
    new_folder(path)
    path.chmod(OWNER)
    return path


def new_folder(path: Path) -> Path:
    """Creates a folder that the user has named. An existing folder keeps its mode, since it may hold other files."""
    path.mkdir(parents=True, exist_ok=True, mode=OWNER)
    return path


def lock_file(path: Path) -> BinaryIO | None:
    """Returns the file at `path`, locked until it is closed or this process ends; None if another process locks it."""
    lock = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    if _is_locked_elsewhere(lock, fcntl.LOCK_EX):
        lock.close()
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Returns whether a live process has locked the file. The check itself holds a shared lock for a moment."""
    try:
        with path.open("rb") as lock:
            return _is_locked_elsewhere(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def _is_locked_elsewhere(lock: BinaryIO, kind: int) -> bool:
    """Tries to take a lock of `kind`; returns True if the lock of another process prevents it."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
