"""The rotated log of a program. Neither a full disk nor a slow reader makes the program's writes fail.

    program --stdout, stderr--> pipe --our thread--> NAME.log --full--> NAME.log.1 -> NAME.log.2 -> NAME.log.3

The program writes to a pipe, so its writes do not fail on a full disk. Output that cannot be written to the file is
dropped, and its size is logged as soon as there is space. No other output is lost: files are rotated between two lines.
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
"""Number of rotated files that are kept in addition to the current one."""

PIPE_BYTES = 1 << 20
"""Bytes that a program can write before it blocks, while our process is stopped."""

READ_BYTES = 1 << 16
DRAIN_S = 1.0

ENDING_LINES = 15


class RotatingLog:
    """The log of one program. Verbs: pipe, tail, ending, close.

    Thread-safe. A file that exists already is rotated at the start.
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
        """Yields the write end of a pipe to the log, for a program that is started within the block."""
        read, write = os.pipe()
        # A system that cannot enlarge a pipe leaves a smaller one, which works, too.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            thread = threading.Thread(target=self._copy, args=(read,), name=f"log of {self.path.stem}", daemon=True)
            thread.start()
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            yield write
        finally:
            os.close(write)

    def tail(self, num_lines: int) -> list[str]:
        """Returns the last lines of the log. Waits for the remaining output of a program that has ended."""
        self._drain()
        files = [self._older_path(1), self.path] if self._has_older else [self.path]
        content = "".join(path.read_text(errors="replace") for path in files if path.exists())
        return content.splitlines()[-num_lines:]

    def ending(self) -> str:
        """Returns the path of the log and its last lines, to append to a message about a program that has ended."""
        return "\n  ".join([f"; the end of {self.path}:", *self.tail(ENDING_LINES)])

    def close(self) -> None:
        """Closes the file after the program has ended and its output is written."""
        self._drain()
        with self._lock:
            self._close_file()

    def _drain(self) -> None:
        """Waits for the output of ended programs, at most DRAIN_S each, since orphans may hold the pipe open."""
        for thread in self._threads:
            thread.join(DRAIN_S)

    def _copy(self, read: int) -> None:
        """Copies output to the file until no process holds the write end of the pipe.

        consumes: the output of a program
        produces: the log file
        waits for: the program
        unblocked by: its output, its end
        """
        with os.fdopen(read, "rb", buffering=0) as output:
            while data := output.read(READ_BYTES):
                with self._lock:
                    self._append(data)

    def _append(self, data: bytes) -> None:
        """Writes `data`. A full file is rotated between two lines, or within a line that is longer than the file."""
        try:
            self._open()
            if self._num_lost:
                self._write(f"[{self._num_lost} bytes were lost here: they could not be written]\n".encode())
                self._num_lost = 0
            # Rotate after the last line end. Without one, wait for it until the file has twice its size.
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
        """Writes all of `data`. If a full disk cuts the write short, the caller counts all of `data` as lost."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._size += len(data)

    def _rename(self) -> None:
        for number in range(GENERATIONS - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older_path(number).replace(self._older_path(number + 1))
        self.path.replace(self._older_path(1))

    def _older_path(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._size = 0
