"""The machine of a scene's servers and learner, whose power can be cut: for one of them, as for a machine of its own,
or for all.

cut: SIGKILL -> all have ended -> their folders are rolled back -> LostTails
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.chaos import programs
from bench.chaos.synced import WRITE_BACK_S, LostTails, Tail, synced_folder

PARTS = {programs.BROKER: "kafka", programs.REDIS: "redis", programs.LEARNER: "learner"}
"""The folder of each role that can lose its power alone."""

ALL = "all"

OURS = ("logs", "filler", "toxiproxy")
"""The beginnings of the names of what the scene itself keeps in the folder."""

END_S = 30.0


class PowerSupply:
    """Owns the image of a scene's folder. Cuts belong to the thread that plays the scene."""

    def __init__(self, folder: Path, *, is_used: bool = True) -> None:
        self._folder = folder
        self._image = tempfile.TemporaryDirectory(prefix="chaos-image-")  # elsewhere: the folder's disk may be full
        self._disk = synced_folder(folder, Path(self._image.name)) if is_used else None
        self._written_back_s = time.monotonic()
        self._rng = random.Random("chaos/power")
        self.lost = LostTails()

    @property
    def elsewhere(self) -> Path:
        """The folder of what lies on another machine, whose power is never cut, such as backups."""
        return Path(self._image.name) / "elsewhere"

    @property
    def can_lose_power(self) -> bool:
        """Whether power cuts are possible: they are asked for, and there is a C compiler."""
        return self._disk is not None

    def environment(self) -> dict[str, str]:
        """Returns the environment variables of the programs of this machine."""
        return self._disk.environment() if self._disk else {}

    def check(self) -> None:
        """Writes old bytes back, when it is time."""
        if self._disk and time.monotonic() - self._written_back_s > WRITE_BACK_S:
            self._written_back_s = time.monotonic()
            self._disk.write_back()

    def cut(self, role: str, pids: Sequence[int]) -> str:
        """Cuts the power of a role, or of ALL; returns in words what was lost. `pids` are all of its processes."""
        disk = self._disk
        if disk is None:
            return "no image"
        cut_s = time.time()
        kill_all(pids)
        tails: list[Tail] = []
        for part in self._parts(role):
            tails += disk.roll_back(part, self._rng)
        num_before = len(self.lost.numbers)
        self.lost.add(tails, cut_s=cut_s)
        num_bytes = sum(len(tail.lost) for tail in tails)
        return f"{num_bytes} bytes of {len(tails)} files, {len(self.lost.numbers) - num_before} more events"

    def close(self) -> None:
        self._image.cleanup()

    def _parts(self, role: str) -> list[str]:
        if role != ALL:
            return [PARTS[role]]
        return sorted(path.name for path in self._folder.iterdir() if not path.name.startswith(OURS))


def kill_all(pids: Sequence[int]) -> None:
    """Kills processes, which may be those of another parent, and returns when they have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + END_S
    while any(map(_runs, pids)):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"processes do not end within {END_S:g} s of SIGKILL: {pids}")
        time.sleep(0.02)  # they are not ours: nothing tells of their end


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
