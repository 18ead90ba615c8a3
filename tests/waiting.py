"""Waits for the effect of another thread or process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_S = 0.01


def eventually(holds: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Calls `holds`, with pauses, until it is true; fails after `within_s`. The pauses yield the processor."""
    assert in_time(holds, within_s=within_s), f"not so within {within_s} s"


def in_time(holds: Callable[[], bool], *, within_s: float) -> bool:
    """Calls `holds`, with pauses, until it is true; False where it is not after `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(PAUSE_S)
    return True


def suspend(pid: int) -> None:
    """Stops a process, and returns when all of its threads stand still; on a busy machine they run on for a while."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: _stands_still(Path(f"/proc/{pid}/task")))


def _stands_still(tasks: Path) -> bool:
    try:
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
        return False
    return set(states) == {"T"}
