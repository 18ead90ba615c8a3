"""The scene `lifelong up`: one command, with its own Apache Kafka and its own Redis, on a small disk of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.chaos import family
from bench.chaos.faults import DamagedBlob, FaultKind, FlushAll, FullDisk, Kill
from bench.chaos.programs import last_line
from bench.chaos.sandbox import Disk, disk
from bench.chaos.scene import chosen, kill_of, lasting, pause_of, small
from bench.chaos.size import SceneSize
from bench.service import apache_kafka
from services.local import tether
from services.local.logfile import RotatingLog
from services.running import NotRunning, attach, read
from services.settings import Settings, as_environment

DISK_MB = 768
"""Kafka's log of a full run takes 100 MB, the checkpoints 50, Redis' file up to 200."""

READY_S = 240.0
STOP_S = 30.0
LOOK_S = 0.1
SUPERVISOR = "supervisor"

KILLED = (
    family.REPLICA,
    family.SERVE_CONTROLLER,
    family.RAYLET,
    family.GCS,
    family.SERVE,
    family.LEARNER,
    family.CONTROLLER,
    family.REDIS,
    family.BROKER,
)


class Up:
    """Owner of the process `lifelong up`. Raises Skip where there is no Apache Kafka."""

    name = "up"

    def __init__(self, folder: Path, size: SceneSize, say: Callable[[str], None]) -> None:
        apache_kafka()
        self._size = size
        self._say = say
        self._disk: Disk | None = disk(folder, DISK_MB)
        self._settings = small(state_dir=str(folder), serving__http_port=tether.free_port())
        self._log = folder / "logs" / "up.log"
        self._where = self._settings
        self._process: subprocess.Popen[bytes] | None = None
        self._num_ended = 0

    @property
    def num_ended(self) -> int:
        return self._num_ended

    def start(self) -> None:
        self._launch()
        deadline_s = time.monotonic() + READY_S
        while not self._is_ready():
            if self._has_ended or time.monotonic() > deadline_s:
                raise RuntimeError(f"lifelong up did not get ready in {READY_S:g} s: {self._log.read_text()[-2000:]}")
            time.sleep(LOOK_S)  # a file tells where it is, and nothing tells when the file is there
        self.check()

    def check(self) -> None:
        if self._process is not None and self._has_ended:
            self._num_ended += 1
            self._say(f"lifelong up has ended by itself with {self._process.returncode}: {last_line(self._log)}")
            self._launch()
        if self._is_ready():
            with suppress(NotRunning):  # it has ended between the two
                self._where = attach(self._settings)

    def where(self) -> Settings:
        return self._where

    def kinds(self) -> list[FaultKind]:
        size = self._size
        kinds = [kill_of(role, partial(self._pids, role)) for role in KILLED]
        kinds += [kill_of(SUPERVISOR, self._own_pid, self._again)]
        kinds += [pause_of(role, partial(self._pids, role), size) for role in KILLED]
        kinds += [pause_of(SUPERVISOR, self._own_pid, size), FaultKind("FLUSHALL", lambda _: FlushAll(self.where))]
        replica = Kill(family.REPLICA, partial(self._pids, family.REPLICA))
        kinds += [FaultKind("damaged blob", lambda rng: DamagedBlob(self.where, replica, rng.random()))]
        if (small := self._disk) is not None:
            kinds += [FaultKind("full disk", lambda rng: FullDisk(small, lasting(rng, size)))]
        return chosen(kinds, size.only)

    def missing(self) -> list[str]:
        return [] if self._disk else ["full disk: no mount namespace may be made here (unshare -m)"]

    def restart(self) -> None:
        self.close()
        self._launch()

    def close(self) -> None:
        if self._process is not None:
            tether.stop(self._process, grace_s=STOP_S)
            self._process = None

    @property
    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _again(self) -> None:
        """After it was killed: as whatever starts services at boot would."""
        if self._process is not None:
            self._process.wait()
        self._launch()

    def _launch(self) -> None:
        argv = [sys.executable, "-P", "-m", "services.cli", "up", "--config", os.devnull]
        self._process = tether.start(argv, log=RotatingLog(self._log), env=as_environment(self._settings))

    def _is_ready(self) -> bool:
        running = read(self._settings.state_dir)
        return running is not None and self._process is not None and running["pid"] == self._process.pid

    def _pids(self, role: str) -> list[int]:
        """Of its descendants; of the replica, where it answers."""
        if self._process is None:
            return []
        ours = family.Family(self._process.pid)
        return ours.answering(self._where.serving.http_port) if role == family.REPLICA else ours.pids(role)

    def _own_pid(self) -> list[int]:
        return [self._process.pid] if self._process else []
