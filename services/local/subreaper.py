"""Runs a program whose descendants may outlive it, and ends every one of them with it.

    python guard.py PARENT argv... -> subreaper -> subreaper -> argv, tethered to us -> its end -> SIGKILL for the rest

Ray is such a program: killed, it leaves agents behind that take two minutes to notice, and for seconds the replica that
holds the port. As a subreaper we become the parent of every orphan among our descendants, so none can hide. SIGTERM is
passed on; the death of our own parent, which the kernel reports as SIGTERM, too, kills the program at once.

There are two guards, one inside the other, since a guard can be killed as well: the outer one inherits what the inner
one leaves, and the inner one notices the death of the outer one as that of its parent.

Rejected: a process group (Ray makes groups of its own), a mark in the environment (Ray overwrites it), and the stack
itself as the subreaper (it lives in processes that have other children, which it could not tell from orphans).
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from services.local import tether

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

REAP_S = 0.01
"""How often killed orphans are looked after until none is left."""


def guarded(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` guarded, as a child of this process."""
    return [sys.executable, "-P", "-m", "services.local.subreaper", str(os.getpid()), *argv]


def main(parent: int, argv: Sequence[str]) -> int:
    """Runs `argv` to its end under two guards; its return code, negative for the signal that ended it."""
    outer = os.getpid()

    def start_inner() -> int:
        pid = os.fork()
        if not pid:
            end_like(_guard(outer, lambda: _start(argv)))
        return pid

    return _guard(parent, start_inner)


def _start(argv: Sequence[str]) -> int:
    return os.posix_spawn(
        sys.executable, [sys.executable, "-S", tether.__file__, str(os.getpid()), *argv], dict(os.environ)
    )


def _guard(parent: int, start: Callable[[], int]) -> int:
    """Guards the process that `start` makes, until it ends; its return code.

    consumes: SIGTERM and SIGINT, from our parent or because of its death
    produces: the end of the process and of all its descendants
    waits for: the end of the process
    unblocked by: that end
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    child = start()

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number if os.getppid() == parent else signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    if os.getppid() != parent:  # it died before we listened
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # there is nobody left to pass it on to
    _end_orphans()
    return os.waitstatus_to_exitcode(status)


def _end_orphans() -> None:
    """Kills our children until there are none: those of a killed child become ours."""
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(REAP_S)  # nothing tells of the end of a child whose name the list did not have


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def end_like(code: int) -> NoReturn:
    """Ends this process as the program ended, by the same signal where it was one."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    end_like(main(int(sys.argv[1]), sys.argv[2:]))
