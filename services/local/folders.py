"""Folders and locks of ours: for their owner's eyes, and one owner at a time."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

OWNER = 0o700


def private_folder(path: Path) -> Path:
    """Makes a folder that only we use; one that is there already is closed to everybody else."""
    new_folder(path)
    path.chmod(OWNER)
    return path


def new_folder(path: Path) -> Path:
    """Makes a folder that the user has named; one that is there already keeps its mode, since it may hold more."""
    path.mkdir(parents=True, exist_ok=True, mode=OWNER)
    return path


def locked(path: Path) -> BinaryIO | None:
    """The file at `path`, locked until it is closed or this process ends; None while another has it."""
    lock = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    if _is_taken(lock, fcntl.LOCK_EX):
        lock.close()
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Whether a process that lives has locked it. Whoever asks holds a lock for a moment."""
    try:
        with path.open("rb") as lock:
            return _is_taken(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def _is_taken(lock: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
