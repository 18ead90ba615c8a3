"""Starts child processes that end with their parent, even when the parent is killed, and with all their descendants.

    start(argv) -> python children.py PARENT argv... -> prctl(PR_SET_PDEATHSIG, SIGKILL) -> exec argv
    guarded(argv): python children.py guard PARENT argv... -> guard -> guard -> argv, tethered to the inner guard
                   the end of argv -> SIGKILL for its descendants

The kernel sends the signal when the *thread* that started the child ends (PDEATHSIG is per thread), so start servers
from a thread that lives as long as the process. On systems without prctl only `stop` ends the child. A child has its
own process group, so that Control-C reaches only us and we end our children in our order. The files that a child
writes are private to their owner.

A program is guarded if its descendants may outlive it. Ray is such a program: after it is killed, its agents notice
that only after two minutes, and the replica that holds the port only after some seconds. A guard is a subreaper: it
becomes the parent of every orphan among its descendants, so no descendant escapes. A guard forwards SIGTERM to the
program. The kernel also reports the death of the guard's own parent as SIGTERM; then the guard kills the program at
once. Since a guard can be killed, too, there are two guards, one inside the other. If the inner guard is killed, the
outer guard inherits its descendants. If the outer guard is killed, the inner guard loses its parent and kills the
program.

Rejected:

- `preexec_fn`: it is unsafe in a process with threads.
- An exit hook: it does not run if we are killed.
- Process groups as guards: Ray makes its own groups.
- The stack as the subreaper: it could not distinguish its other children from orphans.
- A session for each child: Linux gives each session an equal share of a processor (autogroups, sched(7)) and ignores
  the nice values of threads in other sessions. Slow work then takes time from answers: on two busy cores a label is
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
"""First argument of this file if it runs as a guard; otherwise the first argument is the process id of the parent."""

REAP_S = 0.01
"""Poll interval for killed orphans, until none is left."""

OWNER_ONLY = 0o077
"""The umask of our programs: only the owner may read what they write."""

FIRST_PORT = 10_000
FIRST_CLIENT_PORT = 32_768
PORT_TRIES = 200

# Not the global generator: a program that seeds it would get the same ports again.
_rng = random.SystemRandom()
# Ports that were returned before: their servers may not have started to listen yet.
_issued: set[int] = set()


def start(argv: Sequence[str], *, log: "RotatingLog", env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Runs `argv` tethered to this process, with its output in `log`; `env` is added to the environment."""
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
        """Starts the program again after it has ended, without waiting until it is ready."""
        self.process = start(self._argv, log=self.log, env=self._env)
        return self.process

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Terminates the program, and kills it if it has not ended after `grace_s` seconds."""
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
    """Returns a TCP port on 127.0.0.1 on which no process listens, and which was not returned before.

    The port is not an ephemeral port. While a server restarts, a client that connects to an ephemeral port can get the
    same port as its own local port, and keep it. Raises OSError if no port was found.
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
    """Returns the first ephemeral port; Linux's default if the range begins so low that no ports are left below it."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return FIRST_CLIENT_PORT
    return first if first >= FIRST_PORT + PORT_TRIES else FIRST_CLIENT_PORT


def _become(parent: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the signal was set.
        if os.getppid() != parent:
            os._exit(1)
    os.execvp(argv[0], list(argv))


def guarded(argv: Sequence[str]) -> list[str]:
    """Returns the command that runs `argv` under guards, as a child of this process."""
    return [sys.executable, "-S", __file__, GUARD, str(os.getpid()), *argv]


def _run_guarded(parent: int, argv: Sequence[str]) -> int:
    """Runs `argv` to its end under two guards; returns its exit code, or the negative number of the ending signal."""
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
    # The parent may have died before the handlers were set.
    if os.getppid() != parent:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    # The program has ended: there is no process left to forward a signal to.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _kill_orphans()
    return os.waitstatus_to_exitcode(status)


def _kill_orphans() -> None:
    """Kills the children of this process until it has none. The children of a killed child become its children."""
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        # No killed child has ended yet, or a child that was not in the list still lives.
        if not pid:
            time.sleep(REAP_S)


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
