"""Provides a small disk that can be filled up, and a clock that can be set wrong for one program.

in_namespace(argv) -> unshare -m argv -> Disk: a tmpfs that no other process sees, filled and emptied
Clock -> LD_PRELOAD of clock.c, which reads its offset from a file -> one program is an hour ahead

Rejected: libfaketime, which allocates at the first call. Redis's jemalloc makes that call before it can allocate, so
Redis never starts. Rejected: a time namespace, which Linux does not have for the wall clock.
"""

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARK = "CHAOS_NAMESPACE"
"""The environment variable of a process that has a mount namespace of its own."""

BLOCK = b"\0" * (1 << 20)

NO_COMPILER = "there is no C compiler (Debian: apt install gcc libc6-dev)"

SOURCE = Path(__file__).with_name("clock.c")

_SECONDS = struct.Struct("=q")


def in_namespace(argv: list[str]) -> list[str]:
    """Returns the command that runs `argv` in a mount namespace of its own, or `argv` if the machine allows none."""
    for options in (["-m"], ["-r", "-m"]):
        unshare = ["unshare", *options, "--propagation", "private"]
        if shutil.which("unshare") and _succeeds([*unshare, "true"]):
            return [*unshare, "env", f"{MARK}=1", *argv]
    return argv


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder with a tmpfs of its own."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Fills the disk to the last byte."""
        with self._filler.open("wb", buffering=0) as file:
            for block in (BLOCK, b"\0" * 4096):
                try:
                    while True:
                        file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Frees the space that `fill` took. Idempotent."""
        self._filler.unlink(missing_ok=True)


def disk(folder: Path, megabytes: int) -> Disk | None:
    """Mounts a disk on `folder`; returns None without a mount namespace. The disk disappears with the namespace."""
    if MARK not in os.environ:
        return None
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder)], check=True)
    return Disk(folder)


@dataclass(frozen=True, slots=True)
class Clock:
    """The wall clock of one program. Monotonic clocks stay right, as after an administrator sets the time."""

    library: Path
    file: Path

    def set(self, offset_s: int) -> None:
        """Sets the clock `offset_s` seconds ahead of the true time, or behind it. The program sees this at once."""
        with self.file.open("r+b") as file:
            file.write(_SECONDS.pack(offset_s))

    def environment(self) -> dict[str, str]:
        """Returns the environment variables of a program that uses this clock."""
        return {"LD_PRELOAD": str(self.library), "CHAOS_CLOCK": str(self.file)}


def clock(folder: Path, name: str) -> Clock | None:
    """Makes a clock that shows the true time until it is set; returns None without a C compiler.

    Its files are in `folder`.
    """
    library = shared_library(SOURCE, folder)
    if library is None:
        return None
    file = folder / f"{name}.clock"
    file.write_bytes(_SECONDS.pack(0))
    return Clock(library, file)


def shared_library(source: Path, folder: Path) -> Path | None:
    """Compiles a C file to a shared library in `folder`, once; returns None without a C compiler."""
    library = folder / f"{source.stem}.so"
    if not library.exists():
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "gcc", "clang", "cc"))), None)
        if compiler is None:
            return None
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
