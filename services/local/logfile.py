"""A program's log, bounded in size, that neither a full disk nor a slow reader turns into the program's fault.

    program --stdout, stderr--> pipe --a thread of ours--> NAME.log --full--> NAME.log.1 -> NAME.log.2 -> NAME.log.3

The program writes to a pipe, so no write of its fails when the disk is full: what cannot be written is dropped here,
and its size is written down as soon as there is space. Nothing else is ever lost: a file is renamed between two lines.

Rejected: handing the file itself to the program (a log line on a full disk raises in whoever writes it, and the file
grows without bound), and copying and truncating it from outside (what is written in between is lost).
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_BYTES = 8 << 20
GENERATIONS = 3
"""Older files that are kept beside the one that is written."""

PIPE_BYTES = 1 << 20
"""What a program may write while we are stopped before it has to wait for us."""

READ_BYTES = 1 << 16
DRAIN_S = 1.0

ENDING_LINES = 15


class RotatingLog:
    """The log of one program. Verbs: pipe, tail, ending, close.

    Threads may share it. What an earlier owner left in the file becomes its first older generation.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._num_lost = 0
        self._has_older = False
        self._file = -1
        self._size = 0
        if path.exists():
            self._rename()

    @contextmanager
    def pipe(self) -> Iterator[int]:
        """The end to write to, for a program that is started inside of the block; what it says goes to the file."""
        read, write = os.pipe()
        with contextlib.suppress(OSError, AttributeError):  # a smaller one will do
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            thread = threading.Thread(target=self._copy, args=(read,), name=f"log of {self.path.stem}", daemon=True)
            thread.start()
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            yield write
        finally:
            os.close(write)

    def tail(self, num_lines: int) -> list[str]:
        """The last lines. Of a program that has ended, the very last."""
        self._drain()
        files = [self._older(1), self.path] if self._has_older else [self.path]
        said = "".join(path.read_text(errors="replace") for path in files if path.exists())
        return said.splitlines()[-num_lines:]

    def ending(self) -> str:
        """The file and its last lines, as the end of a message about a program that is not there."""
        return "\n  ".join([f"; the end of {self.path}:", *self.tail(ENDING_LINES)])

    def close(self) -> None:
        """Call it when the program has ended."""
        self._drain()
        with self._lock:
            self._close_file()

    def _drain(self) -> None:
        """Waits for what was said; not for long, since a program's orphans may hold its pipe."""
        for thread in self._threads:
            thread.join(DRAIN_S)

    def _copy(self, read: int) -> None:
        """Copies until everybody who holds the other end is gone.

        consumes: what a program says
        produces: the log file
        waits for: the program
        unblocked by: its output, its end
        """
        with os.fdopen(read, "rb", buffering=0) as said:
            while data := said.read(READ_BYTES):
                with self._lock:
                    self._take(data)

    def _take(self, data: bytes) -> None:
        """Writes `data`, parted between two lines where the file is full by it, or anywhere where a line has no end."""
        try:
            self._open()
            if self._num_lost:
                self._write(f"[{self._num_lost} bytes were lost here: they could not be written]\n".encode())
                self._num_lost = 0
            end = data.rfind(b"\n") + 1
            if self._size + len(data) >= self._max_bytes and (end or self._size >= 2 * self._max_bytes):
                self._write(data[:end])
                self._close_file()
                self._rename()
                self._has_older = True
                data = data[end:]
            if data:
                self._open()
                self._write(data)
        except OSError:
            self._num_lost += len(data)

    def _open(self) -> None:
        if self._file < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._size = os.fstat(self._file).st_size

    def _write(self, data: bytes) -> None:
        """Writes all of it; what a full disk took a part of counts as lost as a whole."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._size += len(data)

    def _rename(self) -> None:
        for number in range(GENERATIONS - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older(number).replace(self._older(number + 1))
        self.path.replace(self._older(1))

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._size = 0
