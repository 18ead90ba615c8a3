"""Runs a program whose descendants may outlive it, and ends all of them with it.

    python -m services.local.subreaper PARENT argv... -> subreaper -> subreaper -> argv, tethered to us
    the end of argv -> SIGKILL for its descendants

Ray is such a program: when it is killed, its agents notice only after two minutes, and the replica that holds the port
after seconds. A subreaper becomes the parent of every orphan among its descendants, so no descendant escapes. SIGTERM
is forwarded. The death of our own parent, which the kernel also reports as SIGTERM, kills the program at once.

There are two guards, one inside the other, since a guard can be killed, too. The outer guard inherits the descendants
of a killed inner guard, and the inner guard notices the death of the outer one as that of its parent.

Rejected: a process group (Ray makes its own groups), a mark in the environment (Ray overwrites it), and the stack
itself as the subreaper (its process has other children, which it could not tell from orphans).
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
"""Poll interval for killed orphans, until none is left."""


def guarded(argv: Sequence[str]) -> list[str]:
    """Returns the command that runs `argv` under guards, as a child of this process."""
    return [sys.executable, "-P", "-m", "services.local.subreaper", str(os.getpid()), *argv]


def main(parent: int, argv: Sequence[str]) -> int:
    """Runs `argv` to its end under two guards; returns its return code, negative for the signal that ended it."""
    outer = os.getpid()

    def start_inner() -> int:
        pid = os.fork()
        if not pid:
            exit_like(_guard(outer, lambda: _start(argv)))
        return pid

    return _guard(parent, start_inner)


def _start(argv: Sequence[str]) -> int:
    return os.posix_spawn(
        sys.executable, [sys.executable, "-S", tether.__file__, str(os.getpid()), *argv], dict(os.environ)
    )


def _guard(parent: int, start: Callable[[], int]) -> int:
    """Guards the process that `start` makes until it ends; returns its return code.

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
    if os.getppid() != parent:  # it died before the handlers were set
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the program has ended
    _end_orphans()
    return os.waitstatus_to_exitcode(status)


def _end_orphans() -> None:
    """Kills our children until there are none; the children of a killed child become ours."""
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(REAP_S)  # a child that the list did not have may still live


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def exit_like(code: int) -> NoReturn:
    """Ends this process as the program ended: with the same exit code, or by the same signal."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    exit_like(main(int(sys.argv[1]), sys.argv[2:]))
