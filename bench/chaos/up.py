"""The scene `lifelong up`: one command, with its own Apache Kafka and its own Redis, on its own small disk."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bench.chaos import programs
from bench.chaos.faults import FaultKind, draw_duration_s, full_disk
from bench.chaos.power import ALL, PARTS
from bench.chaos.programs import descendants, last_line
from bench.chaos.sandbox import NO_COMPILER, Disk, disk
from bench.chaos.scene import (
    STOP_S,
    Machine,
    Missing,
    kill_kind,
    pause_kind,
    power_cut_kind,
    scene_settings,
    select_kinds,
    store_kinds,
)
from bench.chaos.size import SceneSize
from bench.harness.process import lifelong_command
from services.local import children
from services.local.logfile import RotatingLog
from services.running import NotRunning, attach, read_announcement
from services.settings import Settings, as_environment

DISK_MB = 768
"""The size of the disk. A full run needs 100 MB for Kafka's log, 50 for checkpoints, and up to 200 for Redis's file."""

SUPERVISOR = "supervisor"
NO_CHANGES: Final[Mapping[str, Any]] = MappingProxyType({})

KILLED = (
    programs.REPLICA,
    programs.SERVE_CONTROLLER,
    programs.RAYLET,
    programs.GCS,
    programs.SERVE,
    programs.LEARNER,
    programs.CONTROLLER,
    programs.REDIS,
    programs.BROKER,
)


class Up(Machine):
    """Owns the process `lifelong up`, with some settings changed. Raises Skip if there is no Apache Kafka."""

    name = "up"

    def __init__(
        self, folder: Path, size: SceneSize, say: Callable[[str], None], changes: Mapping[str, Any] = NO_CHANGES
    ) -> None:
        # The disk is mounted on the folder before anything is written into it.
        self._disk: Disk | None = disk(folder, DISK_MB)
        super().__init__(folder, size, say)
        self._settings = scene_settings(
            state_dir=str(folder),
            serving__http_port=children.free_port(),
            serving__keys_file=str(self.api_keys.file),
            **changes,
        )
        self._log = folder / "logs" / "up.log"
        self._attached = self._settings
        self._process: subprocess.Popen[bytes] | None = None
        self.num_unexpected_ends = 0

    @property
    def pid(self) -> int:
        """The process id; 0 while there is no process."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self._launch()
        self.await_ready(self._is_ready, "lifelong up", [self._log])
        self.check()

    def check(self) -> None:
        self._restart_ended()
        super().check()
        if self._is_ready():
            # The process may end between the two calls.
            with suppress(NotRunning):
                self._attached = attach(self._settings)

    def settings(self) -> Settings:
        return self._attached

    def kinds(self) -> list[FaultKind]:
        size = self._size
        kinds = [kill_kind(role, partial(self._pids, role)) for role in KILLED]
        kinds += [kill_kind(SUPERVISOR, self._own_pid, self._restart_killed)]
        kinds += [pause_kind(role, partial(self._pids, role), size) for role in KILLED]
        kinds += [pause_kind(SUPERVISOR, self._own_pid, size)]
        kinds += reversed(store_kinds(self.settings, partial(self._pids, programs.REPLICA)))
        kinds += [self.api_keys.kind(self._settings, size)]
        if self._power.can_lose_power:
            for role in PARTS:
                kinds += [power_cut_kind(role, partial(self._cut_one, role), partial(self._pids, role))]
            kinds += [power_cut_kind(ALL, self._cut_all, self._own_pid)]
        if (small := self._disk) is not None:
            kinds += [FaultKind("full disk", lambda rng: full_disk(small, draw_duration_s(rng, size)))]
        return select_kinds(kinds, size.only)

    def missing(self) -> dict[Missing, str]:
        missing: dict[Missing, str] = {}
        if not self._disk:
            missing["namespaces"] = "full disk: this machine allows no mount namespace (unshare -m)"
        if not self._power.can_lose_power:
            missing["compiler"] = f"power cuts: {NO_COMPILER}"
        return missing

    def restart(self) -> None:
        self._end()
        self._launch()

    def close(self) -> None:
        self._end()
        self._power.close()

    def _end(self) -> None:
        if self._process is not None:
            children.stop(self._process, grace_s=STOP_S)
            self._process = None

    @property
    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _restart_ended(self) -> None:
        """Restarts the process if it ended without being killed, and counts this, even before it was first ready."""
        if self._process is not None and self._has_ended:
            self.num_unexpected_ends += 1
            self._say(
                f"lifelong up ended unexpectedly with exit code {self._process.returncode}: {last_line(self._log)}"
            )
            self._launch()

    def _restart_killed(self) -> None:
        """Restarts the process after it was killed, as a service manager does at boot."""
        if self._process is not None:
            self._process.wait()
        self._launch()

    def _cut_one(self, role: str) -> str:
        """Cuts the power of one role. The supervisor is stopped meanwhile, because it would restart the processes."""
        supervisor = self._own_pid()
        for pid in supervisor:
            os.kill(pid, signal.SIGSTOP)
        try:
            return self._power.cut(role, self._pids(role))
        finally:
            for pid in supervisor:
                os.kill(pid, signal.SIGCONT)

    def _cut_all(self) -> str:
        """Cuts the power of all processes, and starts the service again."""
        if self._process is None:
            return "no process found"
        lost = self._power.cut(ALL, descendants(self._process.pid))
        self._restart_killed()
        return lost

    def _launch(self) -> None:
        env = as_environment(self._settings) | self._power.environment()
        self._process = children.start(lifelong_command("up"), log=RotatingLog(self._log), env=env)

    def _is_ready(self) -> bool:
        running = read_announcement(self._settings.state_dir)
        return running is not None and self._process is not None and running["pid"] == self._process.pid

    def _pids(self, role: str) -> list[int]:
        """Returns the processes of a role among the descendants. The replica counts only if it answers."""
        if self._process is None:
            return []
        tree = programs.ProcessTree(self._process.pid)
        if role == programs.REPLICA:
            return tree.answering(self._attached.serving.http_port)
        return tree.pids(role)

    def _own_pid(self) -> list[int]:
        return [self._process.pid] if self._process else []
