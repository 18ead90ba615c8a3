"""Starts child processes that end with their parent, even when the parent is killed, and with all their descendants.

    start(argv) -> python children.py PARENT argv... -> prctl(PR_SET_PDEATHSIG, SIGKILL) -> exec argv
    guarded(argv): python children.py guard PARENT argv... -> guard -> guard -> argv, tethered to the inner guard
                   the end of argv -> SIGKILL for its descendants

The kernel sends the signal when the *thread* that started the child ends (PDEATHSIG is per thread), so start servers
from a thread that lives as long as the process. On systems without prctl only `stop` ends the child. A child has its
own process group, so that Control-C reaches only us and we end our children in our order. Its files are private to its
owner.

A program is guarded if its descendants may outlive it. Ray is such a program: when it is killed, its agents notice only
after two minutes, and the replica that holds the port after seconds. A guard is a subreaper: it becomes the parent of
every orphan among its descendants, so no descendant escapes. SIGTERM is forwarded. The death of our own parent, which
the kernel also reports as SIGTERM, kills the program at once. There are two guards, one inside the other, since a guard
can be killed, too. The outer guard inherits the descendants of a killed inner guard, and the inner guard notices the
death of the outer one as that of its parent.

Rejected: `preexec_fn` (unsafe where threads run), an exit hook (it does not run when we are killed), process groups as
guards (Ray makes its own groups), the stack itself as the subreaper (it could not tell its other children from
orphans), and a session for each child: Linux gives each session an equal share of a processor (autogroups, sched(7)),
whatever the nice values of its threads, so that slow work takes time from answers, and on two busy cores a label is
live after 4.6 s instead of 1.4 s.
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from services.local.logfile import RotatingLog


PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

GUARD = "guard"
"""First argument of this file as a program that guards another one; else the first argument is the parent's id."""

REAP_S = 0.01
"""Poll interval for killed orphans, until none is left."""

OWNER_ONLY = 0o077
"""The umask of our programs: only the owner may read what they write."""

FIRST_PORT = 10_000
FIRST_CLIENT_PORT = 32_768
PORT_TRIES = 200

_rng = random.SystemRandom()  # a seeded global generator would return the same ports again
_issued: set[int] = set()  # a server that is not started yet does not listen on its port


def start(argv: Sequence[str], *, log: "RotatingLog", env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Runs `argv` with its output in `log`, tethered to this process; `env` is added to the environment."""
    with log.pipe() as out:
        return subprocess.Popen(
            [sys.executable, "-S", __file__, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            process_group=0,
            umask=OWNER_ONLY,
        )


class Tethered:
    """A running program that can be started again with the same arguments. Verbs: start_again, stop."""

    def __init__(self, argv: Sequence[str], *, log: "RotatingLog", env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._argv = argv
        self._env = env
        self.process = start(argv, log=log, env=env)

    def start_again(self) -> subprocess.Popen[bytes]:
        """Starts the program again after it has ended; does not wait until it is ready."""
        self.process = start(self._argv, log=self.log, env=self._env)
        return self.process

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Ends the program, cleanly if that does not take longer than `grace_s`."""
        stop(self.process, grace_s=grace_s)
        self.log.close()


def stop(process: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> None:
    """Terminates the process, and kills it if it has not ended after `grace_s` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Returns a TCP port on 127.0.0.1 on which nobody listens now, and that was not returned before.

    It is not an ephemeral port: while a server is restarted, a client that connects to an ephemeral port can get this
    very port as its own local port, and keep it.
    """
    end = _first_client_port()
    for _ in range(PORT_TRIES):
        port = _rng.randrange(FIRST_PORT, end)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _issued:
                _issued.add(port)
                return port
    raise OSError(f"no free port was found from {FIRST_PORT} to {end}")


def _first_client_port() -> int:
    """Returns the first ephemeral port; Linux's default where the range begins too low to stay below it."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return FIRST_CLIENT_PORT
    return first if first >= FIRST_PORT + PORT_TRIES else FIRST_CLIENT_PORT


def _become(parent: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the signal was set
            os._exit(1)
    os.execvp(argv[0], list(argv))


def guarded(argv: Sequence[str]) -> list[str]:
    """Returns the command that runs `argv` under guards, as a child of this process."""
    return [sys.executable, "-S", __file__, GUARD, str(os.getpid()), *argv]


def _run_guarded(parent: int, argv: Sequence[str]) -> int:
    """Runs `argv` to its end under two guards; returns its return code, negative for the signal that ended it."""
    outer = os.getpid()

    def start_inner() -> int:
        pid = os.fork()
        if not pid:
            exit_like(_guard(outer, lambda: _spawn_tethered(argv)))
        return pid

    return _guard(parent, start_inner)


def _spawn_tethered(argv: Sequence[str]) -> int:
    return os.posix_spawn(sys.executable, [sys.executable, "-S", __file__, str(os.getpid()), *argv], dict(os.environ))


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
    if sys.argv[1] == GUARD:
        exit_like(_run_guarded(int(sys.argv[2]), sys.argv[3:]))
    _become(int(sys.argv[1]), sys.argv[2:])
