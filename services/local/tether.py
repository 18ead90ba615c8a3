"""Starts a program that ends with us, also when we are killed.

    start(argv) -> python tether.py PARENT argv... -> prctl(PR_SET_PDEATHSIG, SIGKILL) -> exec argv

The kernel sends the signal when the *thread* that started the child ends, so start servers from a thread that lives as
long as the process. On systems without prctl the child is only ended by `stop`. A child has a session of its own, so
that Control-C reaches us alone and we end our children in our order; and its files are its owner's alone.

Rejected: `preexec_fn` (unsafe where threads run), an exit hook (does not run when we are killed), and a supervisor
process (one more thing that can die).
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
"""The umask of our programs: what they write is for their owner's eyes."""

FIRST_PORT = 10_000
FIRST_CLIENT_PORT = 32_768
PORT_TRIES = 200

_rng = random.SystemRandom()  # whoever seeds the global generator would get the same ports again
_given: set[int] = set()  # a server that has yet to be started does not listen on its port


def start(argv: Sequence[str], *, log: "RotatingLog", env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Runs `argv` with its output in `log`, tethered to this process; `env` is added to the environment."""
    with log.pipe() as out:
        return subprocess.Popen(
            [sys.executable, "-S", __file__, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            umask=OWNER_ONLY,
        )


class Tethered:
    """A program that runs, and that can be started again just as it was. Verbs: start_again, stop."""

    def __init__(self, argv: Sequence[str], *, log: "RotatingLog", env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._argv = argv
        self._env = env
        self.process = start(argv, log=log, env=env)

    def start_again(self) -> subprocess.Popen[bytes]:
        """Starts the program, which has ended, once more; does not wait until it is of use."""
        self.process = start(self._argv, log=self.log, env=self._env)
        return self.process

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Ends the program, cleanly where it does not take longer than `grace_s`."""
        stop(self.process, grace_s=grace_s)
        self.log.close()


def stop(process: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> None:
    """Asks the process to end, and kills it when it has not after `grace_s` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now, and that was not given before.

    Not one of those that the system gives to clients: while a server is started again, a client that knocks at such a
    port can be given that very port for its own end, and keeps it.
    """
    end = _first_client_port()
    for _ in range(PORT_TRIES):
        port = _rng.randrange(FIRST_PORT, end)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise OSError(f"no free port was found from {FIRST_PORT} to {end}")


def _first_client_port() -> int:
    """Where the ports of clients begin; Linux's default where they begin too low to stay below them."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return FIRST_CLIENT_PORT
    return first if first >= FIRST_PORT + PORT_TRIES else FIRST_CLIENT_PORT


def _become(parent: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the tether was tied
            os._exit(1)
    os.execvp(argv[0], list(argv))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
