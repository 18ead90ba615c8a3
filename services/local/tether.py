"""Starts a child process that ends with its parent, even when the parent is killed.

    start(argv) -> python tether.py PARENT argv... -> prctl(PR_SET_PDEATHSIG, SIGKILL) -> exec argv

The kernel sends the signal when the *thread* that started the child ends (PDEATHSIG is per thread), so start servers
from a thread that lives as long as the process. On systems without prctl only `stop` ends the child. A child has its
own process group, so that Control-C reaches only us and we end our children in our order. Its files are private to its
owner.

Rejected: `preexec_fn` (unsafe where threads run), an exit hook (it does not run when we are killed), a supervisor
process (one more process that can die), and a session for each child: Linux gives each session an equal share of a
processor (autogroups, sched(7)), whatever the nice values of its threads, so that slow work takes time from answers,
and on two busy cores a label is live after 4.6 s instead of 1.4 s.
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.local.logfile import RotatingLog

PR_SET_PDEATHSIG = 1

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


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
