"""Cuts the power of one server, of the learner, or of all programs of a scene.

cut: SIGKILL -> all processes have ended -> roll back their folders -> LostTails

A role that loses its power alone behaves like a program on a machine of its own.
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

SCENE_FILES = ("logs", "filler", "toxiproxy")
"""The prefixes of the names of the scene's own files in the folder, which are not rolled back."""

END_S = 30.0


class PowerSupply:
    """Owns the image of a scene's folder. Cuts belong to the thread that plays the scene."""

    def __init__(self, folder: Path, *, is_used: bool = True) -> None:
        self._folder = folder
        # The image is outside the folder, whose disk may be full.
        self._image = tempfile.TemporaryDirectory(prefix="chaos-image-")
        self._disk = synced_folder(folder, Path(self._image.name)) if is_used else None
        self._written_back_s = time.monotonic()
        self._rng = random.Random("chaos/power")
        self.lost = LostTails()

    @property
    def safe_folder(self) -> Path:
        """A folder that stands for another machine, whose power is never cut. It holds backups."""
        return Path(self._image.name) / "elsewhere"

    @property
    def can_lose_power(self) -> bool:
        """Whether power cuts are possible: the size asks for them, and there is a C compiler."""
        return self._disk is not None

    def environment(self) -> dict[str, str]:
        """Returns the environment variables with which the programs of this machine must run."""
        return self._disk.environment() if self._disk else {}

    def check(self) -> None:
        """Writes unsynced bytes back every WRITE_BACK_S seconds."""
        if self._disk and time.monotonic() - self._written_back_s > WRITE_BACK_S:
            self._written_back_s = time.monotonic()
            self._disk.write_back()

    def cut(self, role: str, pids: Sequence[int]) -> str:
        """Cuts the power of a role, or of ALL, whose processes are `pids`. Returns a description of the loss."""
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
        return sorted(path.name for path in self._folder.iterdir() if not path.name.startswith(SCENE_FILES))


def kill_all(pids: Sequence[int]) -> None:
    """Kills processes, which need not be our children, and returns when they have ended.

    Raises RuntimeError if that takes longer than END_S.
    """
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + END_S
    while any(map(_runs, pids)):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"processes did not end within {END_S:g} s after SIGKILL: {pids}")
        # Nothing notifies us of the end of processes that are not our children.
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
