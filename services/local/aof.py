"""Takes the holes out of Redis' append-only files, without which it does not start again.

    command | 0 0 0 ... 0 | command  ->  command | command

Redis (7.0 to 8.0 at least) takes a write back that a full disk cut short. But in a file that was begun by a rewrite it
stays itself where the write had come to, so the next one leaves a hole of zeros before it. It says nothing of that;
and killed, hours later, it ends with "Bad file format" at each start. No command begins with a zero, so nothing is lost
with them.

Rejected: `redis-check-aof --fix` (takes everything away that lies behind the hole), and a rewrite as soon as there is
space (until it is done a kill is fatal, and whoever looks at the disk now and then does not see each time it was full).
"""

import mmap
import os
import re
from itertools import pairwise
from pathlib import Path

import structlog

FILES = "appendonlydir/*.incr.aof"

_ZEROS = re.compile(rb"\0+")
_COMMAND = re.compile(rb"\*(\d+)\r\n")
_WORD = re.compile(rb"\$(\d+)\r\n")
_NOTE = re.compile(rb"#[^\n]*\n")

log = structlog.get_logger("redis")


def mend(state_dir: Path) -> int:
    """Removes what are no commands but zeros from the files of a server that does not run; how many bytes these were.

    A file with another fault stays as it is: Redis says what is wrong with it. Raises OSError.
    """
    removed = 0
    for path in state_dir.glob(FILES):
        if holes := _holes_in(path):
            num_bytes = sum(end - start for start, end in holes)
            _rewrite(path, holes)
            log.warning("append_only_file_mended", file=str(path), zeros=num_bytes)
            removed += num_bytes
    return removed


def holes_of(content: bytes | mmap.mmap) -> list[tuple[int, int]]:
    """Where zeros lie between the commands of an append-only file: first byte, and the first one behind.

    Of a file that is cut off, those before; none where it has another fault.

    >>> holes_of(b"*1\\r\\n$4\\r\\nPING\\r\\n" + b"\\0" * 3 + b"*1\\r\\n$4\\r\\nPI")
    [(14, 17)]
    """
    holes = []
    at = 0
    while at < len(content):
        if zeros := _ZEROS.match(content, at):
            holes.append(zeros.span())
            at = zeros.end()
        elif note := _NOTE.match(content, at):
            at = note.end()
        elif command := _COMMAND.match(content, at):
            at = command.end()
            for _ in range(int(command[1])):
                word = _WORD.match(content, at)
                if word is None:
                    return holes if _is_cut_off(content, at) else []
                at = word.end() + int(word[1]) + len(b"\r\n")
        else:
            return holes if _is_cut_off(content, at) else []
    return holes


def _is_cut_off(content: bytes | mmap.mmap, at: int) -> bool:
    """Whether the line that begins at `at` has no end: the server was killed while it wrote it."""
    return content.find(b"\n", at) < 0


def _holes_in(path: Path) -> list[tuple[int, int]]:
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return holes_of(content)


def _rewrite(path: Path, holes: list[tuple[int, int]]) -> None:
    """Copies what is no hole, and puts the copy in the place of the file."""
    borders = [0, *(place for hole in holes for place in hole), path.stat().st_size]
    draft = path.with_suffix(".mended")
    with path.open("rb") as file, draft.open("wb") as copy:
        os.fchmod(copy.fileno(), 0o600)
        for start, end in list(pairwise(borders))[::2]:
            file.seek(start)
            while start < end:
                block = file.read(min(end - start, 1 << 20))
                copy.write(block)
                start += len(block)
        copy.flush()
        os.fsync(copy.fileno())
    draft.replace(path)
