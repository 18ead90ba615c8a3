"""Repairs Redis' append-only files: removes runs of zero bytes, with which Redis does not start.

    command | 0 0 0 ... 0 | command  ->  command | command        command | comm 0 0 0 ... 0  ->  command

Redis (at least 7.0 to 8.0) truncates the file after a write that a full disk cut short. But in a file that a rewrite
began, its file offset stays after the truncated write, so the next write leaves a hole of zeros before it. Redis does
not report that. When it is killed, hours later, every start ends with "Bad file format". No command begins with a zero
byte, so removing the zeros loses nothing.

After a power cut a file may have its size on the disk, but not its last pages: they read as zeros. The command that
they tear was never synced, and Redis by itself removes such a command only if the file ends within it.

Rejected: `redis-check-aof --fix` (it removes everything after the hole), and a rewrite as soon as there is space (until
it is done a kill is fatal, and a periodic check of the disk does not notice each time it was full).
"""

import mmap
import re
from itertools import chain, pairwise
from pathlib import Path

import structlog

from wire.files import DRAFT_SUFFIX, atomic_write

FILES = "appendonlydir/*.incr.aof"
DRAFTS = f"appendonlydir/*{DRAFT_SUFFIX}"
"""Drafts of programs that were killed while they mended: copies of the whole file, on a disk that was full."""

_ZEROS = re.compile(rb"\0+")
_COMMAND = re.compile(rb"\*(\d+)\r\n")
_WORD = re.compile(rb"\$(\d+)\r\n")
_NOTE = re.compile(rb"#[^\n]*\n")

log = structlog.get_logger("redis")


def mend(state_dir: Path) -> int:
    """Removes the zeros between commands from the files of a stopped server; returns the number of bytes removed.

    The caller has the state folder to itself. A file with another defect is left as it is: Redis reports the defect.
    Raises OSError.
    """
    for draft in state_dir.glob(DRAFTS):
        draft.unlink()
    removed = 0
    for path in state_dir.glob(FILES):
        if holes := _holes_in(path):
            num_bytes = sum(end - start for start, end in holes)
            _rewrite(path, holes)
            log.warning("append_only_file_mended", file=str(path), zeros=num_bytes)
            removed += num_bytes
    return removed


def holes_of(content: bytes | mmap.mmap) -> list[tuple[int, int]]:
    """Returns the spans (start, end) of the zeros between the commands of an append-only file.

    A truncated last command is allowed. A file with another defect has no spans.

    >>> holes_of(b"*1\\r\\n$4\\r\\nPING\\r\\n" + b"\\0" * 3 + b"*1\\r\\n$4\\r\\nPI")
    [(14, 17)]
    >>> holes_of(b"*1\\r\\n$4\\r\\nPING\\r\\n" + b"*1\\r\\n$4\\r\\nPI" + b"\\0" * 5)
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
            begun = at
            at, is_whole = _read_command(content, begun)
            if not is_whole and content.find(b"\n", at) >= 0:
                return []
            if not is_whole and content[at:].endswith(b"\0"):
                holes.append((begun, len(content)))
            if not is_whole:
                break
    return holes


def _read_command(content: bytes | mmap.mmap, at: int) -> tuple[int, bool]:
    """Returns the end of the command that begins at `at`, or of what can be read of it; and whether it is whole."""
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


def _holes_in(path: Path) -> list[tuple[int, int]]:
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return holes_of(content)


def _rewrite(path: Path, holes: list[tuple[int, int]]) -> None:
    """Replaces the file by a copy without the holes."""
    borders = [0, *chain.from_iterable(holes), path.stat().st_size]
    with path.open("rb") as file, atomic_write(path, mode=0o600, is_synced=True) as copy:
        for start, end in list(pairwise(borders))[::2]:
            file.seek(start)
            while start < end:
                block = file.read(min(end - start, 1 << 20))
                copy.write(block)
                start += len(block)
