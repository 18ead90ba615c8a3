"""The learner's disk: real files in a folder, and a record of what a power cut would leave of them.

    write --> the file, in memory --fsync--> on the disk           a name: on the disk after an fsync of its folder
    power cut: what was not synced is there, or is gone, or is cut short, or is zeros; a name is there, or is gone

It stands in for the module `os` where the product writes checkpoints and journals. A process that was killed writes
nothing more. Writes fail where the world says that the disk is full.
"""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Final

from tests.simulation.scheduler import Scheduler
from tests.simulation.threads import Running

WRITE_S: Final = (0.0002, 0.004)
SYNC_S: Final = (0.001, 0.05)


class Disk:
    """The disk below `folder`. A name that was synced keeps its file alive below `shadow`, whatever becomes of it."""

    def __init__(self, scheduler: Scheduler, folder: Path) -> None:
        self._scheduler = scheduler
        self._rng = scheduler.rng
        self.folder = folder / "disk"
        self._shadow = folder / "shadow"
        self.folder.mkdir()
        self._shadow.mkdir()
        self._paths: dict[int, Path] = {}
        self._contents: dict[int, bytes] = {}  # by inode: what is on the disk
        self._writes: dict[int, list[int]] = {}  # by inode: where each write began
        self._names: dict[str, int] = {}  # the names that are on the disk, with their inodes
        self.is_full = False

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self._turn(WRITE_S)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = Path(path)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes) -> int:
        self._turn(WRITE_S)
        status = os.fstat(descriptor)
        self._writes.setdefault(status.st_ino, []).append(status.st_size)
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._turn(SYNC_S)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._sync_names()
        else:
            self._contents[status.st_ino] = self._paths[descriptor].read_bytes()

    def rename(self, old: Path, new: Path) -> None:
        self._turn(WRITE_S)
        os.replace(old, new)

    def link(self, old: Path, new: Path) -> None:
        self._turn(WRITE_S)
        os.link(old, new)

    def cut_power(self) -> None:
        """Leaves of every file what a power cut would leave of it."""
        current = {path.name: path.stat().st_ino for path in self.folder.iterdir()}
        for name in sorted(current.keys() | self._names.keys()):
            self._cut(self.folder / name, current.get(name), self._names.get(name))
        self._contents.clear()
        self._writes.clear()
        for path in sorted(self.folder.iterdir()):
            self._contents[path.stat().st_ino] = path.read_bytes()
        self._sync_names()

    def _cut(self, path: Path, inode: int | None, synced_inode: int | None) -> None:
        if inode is not None and inode != synced_inode and self._rng.random() < 0.5:
            path.unlink()  # the name had not reached the disk
            inode = None
        if inode is None and synced_inode is not None and self._rng.random() < 0.5:
            os.link(self._shadow / str(synced_inode), path)  # its removal had not reached the disk
            inode = synced_inode
        if inode is not None:
            self._tear(path, self._contents.get(inode, b""), self._writes.get(inode, []))

    def _tear(self, path: Path, synced: bytes, writes: list[int]) -> None:
        """Leaves what was synced, and of what was written behind it some writes, a part, zeros, or all."""
        written = path.read_bytes()
        if len(written) <= len(synced):
            return
        torn = self._rng.choice([*writes, self._rng.randint(0, len(written))])
        torn = max(torn, len(synced))
        end = self._rng.randint(torn, len(written))
        kind = self._rng.choice(("all", "torn", "zeros", "synced"))
        self._scheduler.note(f"disk leaves {kind} of {path.suffix}")
        left = {
            "all": written,
            "torn": written[:torn],
            "zeros": written[:torn] + bytes(end - torn),
            "synced": written[: len(synced)],
        }
        path.write_bytes(left[kind])

    def _sync_names(self) -> None:
        self._names = {path.name: path.stat().st_ino for path in self.folder.iterdir()}
        kept = set(map(str, self._names.values()))
        for path in list(self._shadow.iterdir()):
            if path.name not in kept:
                path.unlink()
        for name, inode in self._names.items():
            if not (self._shadow / str(inode)).exists():
                os.link(self.folder / name, self._shadow / str(inode))

    def _turn(self, seconds: tuple[float, float]) -> None:
        self._scheduler.pause(self._rng.uniform(*seconds))
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def remove(self) -> None:
        shutil.rmtree(self.folder.parent)


class SimOs:
    """The module `os` for the product's code: files of the simulated disk go through it, anything else does not."""

    disk: Disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        return SimOs.disk.open(Path(path), flags, mode)

    def close(self, descriptor: int) -> None:
        SimOs.disk.close(descriptor)

    def write(self, descriptor: int, data: bytes) -> int:
        return SimOs.disk.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        SimOs.disk.fsync(descriptor)

    def replace(self, old: Any, new: Any) -> None:
        SimOs.disk.rename(Path(old), Path(new))

    def link(self, old: Any, new: Any) -> None:
        SimOs.disk.link(Path(old), Path(new))

    def getpid(self) -> int:
        task = Running.scheduler.current
        return task.process.number if task is not None else 0
