"""Keeps programs running, as a service manager does: what ends is started again after a second."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.local import tether
from services.local.logfile import RotatingLog

RESTART_S = 1.0


@dataclass(slots=True)
class ChaosProgram:
    """A program, and its process while it runs."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    due_s: float = 0.0

    def start(self) -> None:
        self.process = tether.start(list(self.argv), log=RotatingLog(self.log), env=self.env)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0


class Programs:
    """Owns the programs, in the order in which they are started. It belongs to the thread that starts them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._programs: dict[str, ChaosProgram] = {}
        self.num_ended = 0
        """How often a program ended that was not killed and did not ask for a restart by its exit code (75)."""

    def start(self, program: ChaosProgram) -> None:
        self._programs[program.name] = program
        program.start()

    @property
    def pids(self) -> list[int]:
        return [program.pid for program in self._programs.values() if program.pid]

    def check(self) -> None:
        """Restarts the programs that ended at least RESTART_S ago."""
        now_s = time.monotonic()
        for program in self._programs.values():
            if program.process is not None and (code := program.process.poll()) is not None:
                program.process = None
                program.due_s = now_s + RESTART_S
                self.num_ended += code not in (-signal.SIGKILL, os.EX_TEMPFAIL)
                if code >= 0:
                    self._say(f"{program.name} has ended by itself with {code}: {last_line(program.log)}")
            if program.process is None and now_s >= program.due_s:
                program.start()

    def stop(self, name: str, grace_s: float) -> None:
        """Ends a program until it is started again by `start`."""
        program = self._programs.pop(name, None)
        if program is not None and program.process is not None:
            tether.stop(program.process, grace_s=grace_s)

    def close(self, grace_s: float) -> None:
        """Ends the programs, the last one first."""
        for program in reversed(self._programs.values()):
            if program.process is not None:
                tether.stop(program.process, grace_s=grace_s)
        self._programs.clear()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""
