"""What the machine lets us do to ourselves: a small disk of our own, and a clock that goes wrong for one process.

in_namespace(argv) -> unshare -m argv -> Disk: a tmpfs that nobody else sees, filled and emptied
Clock -> LD_PRELOAD of libfaketime, which reads its offset from a file -> one program lives an hour ahead
"""

import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARK = "CHAOS_NAMESPACE"
"""Set in the environment of a process that has a mount namespace of its own."""

BLOCK = b"\0" * (1 << 20)

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


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

    library: str
    file: Path

    def set(self, offset_s: int) -> None:
        """Seconds ahead of the true time, or behind; the program notices within a second."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{offset_s:+d}\n")
        draft.replace(self.file)

    def environment(self) -> dict[str, str]:
        """The variables of a program whose clock this is."""
        return {
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def clock(file: Path) -> Clock | None:
    """A clock that goes right until it is set; None where libfaketime is not installed."""
    found = next((path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern.lstrip("/")))), None)
    if found is None:
        return None
    made = Clock(str(found), file)
    made.set(0)
    return made


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
