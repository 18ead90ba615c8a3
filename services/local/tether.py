"""Starts a program that ends with us, also when we are killed.

    start(argv) -> python tether.py PARENT argv... -> prctl(PR_SET_PDEATHSIG, SIGKILL) -> exec argv

The kernel sends the signal when the *thread* that started the child ends, so start servers from a thread that lives as
long as the process. On systems without prctl the child is only ended by `stop`.

Rejected: `preexec_fn` (unsafe where threads run), an exit hook (does not run when we are killed), and a supervisor
process (one more thing that can die).
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def start(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Runs `argv` with its output in `log`, tethered to this process; `env` is added to the environment."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-S", __file__, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )


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
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _become(parent: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the tether was tied
            os._exit(1)
    os.execvp(argv[0], list(argv))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
