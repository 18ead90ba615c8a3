"""Runs a program whose descendants may outlive it, and ends every one of them with it.

    python guard.py PARENT argv... -> subreaper -> argv, tethered to us -> its end -> SIGKILL for whatever is left

Ray is such a program: killed, it leaves agents behind that take two minutes to notice. As a subreaper we become the
parent of every orphan among our descendants, so none can hide. SIGTERM is passed on; the death of our own parent, which
the kernel reports as SIGTERM, too, kills the program at once.

Rejected: a process group (Ray makes groups of its own), and a mark in the environment (Ray overwrites it).
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from services.local import tether

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def guarded(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` guarded, as a child of this process."""
    return [sys.executable, "-P", "-m", "services.guard", str(os.getpid()), *argv]


def main(parent: int, argv: Sequence[str]) -> int:
    """Runs `argv` to its end; its return code, negative for the signal that ended it.

    consumes: SIGTERM and SIGINT, from our parent or because of its death
    produces: the end of the program and of all its descendants
    waits for: the end of the program
    unblocked by: that end
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    child = subprocess.Popen([sys.executable, "-S", tether.__file__, str(os.getpid()), *argv])

    def pass_on(number: int, _: object) -> None:
        child.send_signal(number if os.getppid() == parent else signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    if os.getppid() != parent:  # it died before we listened
        child.kill()
    code = child.wait()
    _end_orphans()
    return code


def _end_orphans() -> None:
    """Kills our children until there are none: those of a killed child become ours."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def end_like(code: int) -> None:
    """Ends this process as the program ended, by the same signal where it was one."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    end_like(main(int(sys.argv[1]), sys.argv[2:]))
