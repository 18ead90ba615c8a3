"""What the machine lets us do to ourselves: a small disk of our own, and a clock that goes wrong for one process.

in_namespace(argv) -> unshare -m argv -> Disk: a tmpfs that nobody else sees, filled and emptied
Clock -> LD_PRELOAD of clock.c, which reads its offset from a file -> one program lives an hour ahead

Rejected: libfaketime (it allocates at the first call, and jemalloc, which Redis is built with, makes that call before
it can allocate: Redis never starts), and a time namespace (Linux has none for the wall clock).
"""

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARK = "CHAOS_NAMESPACE"
"""Set in the environment of a process that has a mount namespace of its own."""

BLOCK = b"\0" * (1 << 20)

SOURCE = Path(__file__).with_name("clock.c")

_SECONDS = struct.Struct("=q")


def in_namespace(argv: list[str]) -> list[str]:
    """The command, in a mount namespace of its own where we may have one."""
    for options in (["-m"], ["-r", "-m"]):
        unshare = ["unshare", *options, "--propagation", "private"]
        if shutil.which("unshare") and _succeeds([*unshare, "true"]):
            return [*unshare, "env", f"{MARK}=1", *argv]
    return argv


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder on a tmpfs of its own, `num_bytes` large."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leaves not a byte."""
        with self._filler.open("wb", buffering=0) as file:
            for block in (BLOCK, b"\0" * 4096):
                try:
                    while True:
                        file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Gives back what `fill` took."""
        self._filler.unlink(missing_ok=True)


def disk(folder: Path, megabytes: int) -> Disk | None:
    """A disk mounted on `folder`, gone with the namespace; None where this process has none of its own."""
    if MARK not in os.environ:
        return None
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder)], check=True)
    return Disk(folder)


@dataclass(frozen=True, slots=True)
class Clock:
    """The wall clock of one program. Monotonic clocks stay as they are, as they do when somebody sets the time."""

    library: Path
    file: Path

    def set(self, offset_s: int) -> None:
        """Seconds ahead of the true time, or behind; the program sees it at once."""
        with self.file.open("r+b") as file:
            file.write(_SECONDS.pack(offset_s))

    def environment(self) -> dict[str, str]:
        """The variables of a program whose clock this is."""
        return {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(self.file)}


def clock(folder: Path, name: str) -> Clock | None:
    """A clock that goes right until it is set; None where there is no compiler. Its files lie in `folder`."""
    library = folder / "clock.so"
    if not library.exists():
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang", "cc"))), None)
        if compiler is None:
            return None
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
    file = folder / f"{name}.clock"
    file.write_bytes(_SECONDS.pack(0))
    return Clock(library, file)


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
